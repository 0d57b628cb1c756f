"""Budget of the base in keys of the checkout's models; and real runs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.studies.comparison.cli import main
from dien_fuxictr.studies.comparison.zoo import POOLING, zoo_entry

HISTORY = {"dtype": "str", "type": "sequence", "splitter": "^", "max_len": 5}
BASE = {
    "model": "Ours",
    "model_id": "Ours_d",
    "dataset_id": "d",
    "task": "binary_classification",
    "metrics": ["AUC"],
    "optimizer": "adam",
    "learning_rate": 4e-3,
    "embedding_regularizer": 0.25,
    "batch_size": 128,
    "epochs": 8,
    "seed": 2019,
    "num_threads": 1,
    "embedding_dim": 18,
    "dnn_hidden_units": [200, 80],
    "dnn_activations": "Dice",
    "batch_norm": True,
    "net_dropout": 0.2,
    "early_stop_patience": 2,
    "group_id": "user_id",
    "use_features": None,
    "feature_specs": None,
    "target_field": ("item_id", "cate_id"),
    "sequence_field": ("items", "cates"),
    "enable_target_product": True,
    "depth": 3,
    "feature_cols": [
        {"name": "item_id", "dtype": "str", "type": "categorical"},
        {"name": ["items", "cates"], **HISTORY},
        {"name": "queries", **HISTORY},
        {"name": "off", **HISTORY, "active": False},
    ],
}
LENT = (
    "dataset_id",
    "task",
    "metrics",
    "optimizer",
    "learning_rate",
    "embedding_regularizer",
    "batch_size",
    "epochs",
    "seed",
    "num_threads",
    "embedding_dim",
    "early_stop_patience",
    "group_id",
    "feature_cols",
)


def encoders(entry: dict[str, Any]) -> dict[str, str | None]:
    return {spec["name"]: spec["feature_encoder"] for spec in entry["feature_specs"]}


def test_keywords_of_the_checkout_budget_of_the_base(checkout: Path) -> None:
    entry = zoo_entry(Checkout(checkout), "Mean", BASE)
    assert {key: entry[key] for key in LENT} == {key: BASE[key] for key in LENT}
    assert (entry["model"], entry["model_id"], entry["zoo"]) == ("Mean", "zoo_Mean_d", str(checkout))
    assert entry["depth"] == 7  # a keyword of the model itself, although the base has a keyword of this name
    assert (entry["dnn_hidden_units"], entry["dnn_activations"]) == ([200, 80], "Dice")
    assert (entry["batch_norm"], entry["net_dropout"]) == (True, 0.2)
    assert not entry.keys() & {"enable_target_product", "target_field", "sequence_field", "trim_histories"}
    assert encoders(entry) == {"items": POOLING, "cates": POOLING, "queries": POOLING}


def test_base_of_equal_name_lends_its_keywords(checkout: Path) -> None:
    assert zoo_entry(Checkout(checkout), "Mean", {**BASE, "model": "Mean"})["depth"] == 3


def test_a_sequence_model_gets_fields_and_unpooled_histories(checkout: Path) -> None:
    entry = zoo_entry(Checkout(checkout), "Reader", BASE)
    assert entry["din_target_field"] == ("item_id", "cate_id") and entry["din_sequence_field"] == ("items", "cates")
    assert entry["trim_histories"] is False and (entry["attention_hidden_units"], entry["gate"]) == ([32], "sigmoid")
    assert encoders(entry) == {"items": None, "cates": None, "queries": POOLING}
    pooled = {key: value for key, value in BASE.items() if not key.endswith("_field")}
    with pytest.raises(
        UserError,
        match="'Reader' reads histories step by step, but target and sequence fields are missing in the base, Ours_d",
    ):
        zoo_entry(Checkout(checkout), "Reader", pooled)


def test_specs_of_the_base_stay_and_unused_features_have_none(checkout: Path) -> None:
    specs = [{"name": "items", "feature_encoder": "layers.MaskedSumPooling()"}, {"name": "item_id", "embedding_dim": 9}]
    base = {**BASE, "feature_specs": specs, "use_features": ["item_id", "items"]}
    assert zoo_entry(Checkout(checkout), "Reader", base)["feature_specs"] == [
        *specs,
        {"name": "items", "feature_encoder": None},
    ]


def test_one_regularizer(checkout: Path) -> None:
    entry = zoo_entry(Checkout(checkout), "Factors", {**BASE, "net_regularizer": 0.5})
    assert entry["regularizer"] == 0.25 and entry["learning_rate"] == 4e-3 and "dnn_hidden_units" not in entry
    assert not entry.keys() & {"embedding_regularizer", "net_regularizer"}
    factors = {key: value for key, value in BASE.items() if not key.endswith("regularizer")}
    assert zoo_entry(Checkout(checkout), "Factors", {**factors, "regularizer": 0.75})["regularizer"] == 0.75


@pytest.mark.parametrize(("of_base", "expected"), [("Dice", "ReLU"), ("Tanh", "Tanh")])
def test_models_that_cannot_have_dice_keep_their_activation(checkout: Path, of_base: str, expected: str) -> None:
    entry = zoo_entry(Checkout(checkout), "MaskNet", {**BASE, "dnn_activations": of_base})
    assert entry["dnn_hidden_activations"] == expected and entry["dnn_hidden_units"] == [200, 80]


def test_names_of_the_mlp(checkout: Path) -> None:
    entry = zoo_entry(Checkout(checkout), "Towers", BASE)
    assert entry["mlp1_hidden_units"] == entry["top_mlp_units"] == [200, 80]
    assert (entry["mlp1_dropout"], entry["mlp1_batch_norm"], entry["top_mlp_activations"]) == (0.2, True, "Dice")
    assert entry["afn_dropout"] == 0.3 and entry["mlp_hidden_units"] == []  # no MLP, and one that is switched off
    assert not entry.keys() & {"attention_hidden_units", "aux_activation"}


@pytest.mark.usefixtures("sample")
def test_real_runs_of_checkout_models_and_one_that_fails(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "."]):
        subprocess.run(["git", "-C", str(checkout), *command], check=True)
    assert main(["--expids", "EmbeddingMLP_amazon", "--zoo", "FuxiCTR", "--zoo-models", "DIN", "Broken"]) == 1
    shown = capsys.readouterr()
    assert "| zoo_DIN_amazon" in shown.out and "zoo_Broken" not in shown.out
    assert "unexpected RuntimeError in take_step: mat1 and mat2 do not fit; the traceback is in" in shown.err
    assert shown.err.endswith("\nerror: 1 of 3 runs failed: zoo_Broken_amazon_seed2019\n")
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (result,) = json.loads(Path("comparisons/amazon/results.json").read_text())["runs"]["zoo_DIN_amazon"]
    assert result["model"] == "DIN" and result["zoo_commit"] == head.stdout.strip()
