"""Time tokens reach the models that ask for them, and nothing else."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fuxictr.pytorch.layers import MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from made_data import prepare_entry

from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.models import build_model, find_model, load_feature_map
from dien_fuxictr.studies.comparison.plan import experiment_ids

CONFIG = Path(__file__).parents[2] / "config"
TOKENS = {"session_history", "day_history"}
EXPIDS = experiment_ids(CONFIG, "amazon", tag=None)
READERS = {"DSIN_amazon": {"session_history"}, "DREAM_amazon": {"day_history"}}


def params_of(expid: str, data_root: Path) -> dict[str, Any]:
    """Return the params that run_expid.py merges, from the project's folder."""
    params = load_config(CONFIG, expid).params
    build = {
        key: str(CONFIG.parent / value) if key in ("reviews", "meta") else value
        for key, value in params["build"].items()
    }
    return {
        **params,
        "data_root": str(data_root),
        "build": build,
        "gpu": -1,
        "verbose": 0,
        "model_root": str(data_root),
    }


def without_tokens(params: dict[str, Any]) -> dict[str, Any]:
    """Return the params with a data set that never had time tokens."""
    columns = [column for column in params["feature_cols"] if not TOKENS & set(column["name"])]
    assert len(columns) == len(params["feature_cols"]) - 1
    return {**params, "feature_cols": columns, "use_features": None}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tmp_path_factory.mktemp("with"), tmp_path_factory.mktemp("without")


def build(params: dict[str, Any]) -> tuple[BaseModel, list[torch.Tensor]]:
    """Build the model from a fixed seed; return it with the input of its MLPs.

    The input is that of the first batch.
    """
    prepared = prepare_entry(params)
    feature_map = load_feature_map(prepared)
    seed_everything(prepared["seed"])
    model = build_model(find_model(prepared["model"]), feature_map, prepared).eval()
    batch = next(iter(prepared["data_loader"](feature_map, prepared["test_data"], batch_size=64)))
    seen = []
    for layer in model.modules():
        if isinstance(layer, MLP_Block):
            layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        seen.append(model(batch)["y_pred"])
    return model, seen


@pytest.mark.parametrize("expid", [expid for expid in EXPIDS if expid not in READERS])
def test_other_entries_do_not_see_them(expid: str, roots: tuple[Path, Path]) -> None:
    model, seen = build(params_of(expid, roots[0]))
    plain, expected = build(without_tokens(params_of(expid, roots[1])))
    assert model.feature_map.features == plain.feature_map.features
    assert model.feature_map.num_fields == plain.feature_map.num_fields == 4
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in plain.named_parameters()]
    for got, want in zip([*model.parameters(), *seen], [*plain.parameters(), *expected], strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("expid", [expid for expid in EXPIDS if expid in READERS])
def test_readers_see_one(expid: str, roots: tuple[Path, Path]) -> None:
    params = params_of(expid, roots[0])
    assert TOKENS & set(load_feature_map(prepare_entry(params)).features) == READERS[expid]
    assert not [name for name, _ in build(params)[0].named_parameters() if "session_history" in name or "day_" in name]
