"""Features of every kind: scores over HTTP equal `--predict`.

They include several sequences, pre-padding and pretrained embeddings.
"""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from made_columns import META, categorical, numeric, sequence
from made_experiment import made_experiment

from dien_fuxictr import Experiment
from dien_fuxictr.serving.bundle import Bundle, open_bundle
from dien_fuxictr.serving.examples import users_of_test
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.write import write_bundle

COLUMNS = [
    META,
    categorical("item_id"),
    categorical("cate_id"),
    sequence("item_history", share_embedding="item_id"),
    sequence("cate_history", share_embedding="cate_id"),
    sequence("other_history", share_embedding="item_id", padding="pre", max_len=3),
    sequence("gaps", fill_na="g1", feature_encoder="layers.MaskedSumPooling()"),
    categorical("brand", fill_na="none"),
    categorical("zip", "int", fill_na=-1),
    categorical("copied", preprocess="copy_from(item_id)"),
    numeric("age", "int", normalizer="StandardScaler"),
    numeric("price", normalizer="MinMaxScaler"),
    numeric("score", fill_na=0.5),
]
TARGETS = [("item_id", "cate_id"), ("item_id",)]
SEQUENCES = [("item_history", "cate_history"), ("other_history",)]
DIEN = {"model": "DIEN", "dien_target_field": TARGETS, "dien_sequence_field": SEQUENCES, "aux_loss_alpha": 0.5}
DIN = {"model": "DIN", "din_target_field": TARGETS, "din_sequence_field": SEQUENCES}
DTYPES = {"zip": pl.Int64, "age": pl.Int64, "price": pl.Float64, "score": pl.Float64}


def moved_bundle(experiment: Experiment, folder: Path) -> Bundle:
    """Return a bundle, opened after data set, raw files and models are deleted."""
    write_bundle(experiment, folder / "bundle", users_of_test(experiment, 100))
    for gone in ("data", "models", "in", "config"):
        shutil.rmtree(folder / gone)
    return open_bundle(folder / "bundle")


def tokens(text: str | None) -> list[str] | None:
    return None if text is None else text.split("^")


def request_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the request of a CSV row, with features of user and candidates."""
    user = {name: tokens(row[name]) for name in ("item_history", "cate_history", "other_history", "gaps")}
    return {
        "user": {**user, **{name: row[name] for name in ("age", "zip", "user_id")}},
        "candidates": {name: [row[name]] * 2 for name in ("item_id", "cate_id", "brand", "price", "score")},
    }


@pytest.mark.parametrize("model", [DIEN, {**DIEN, "enable_sum_pooling": True, "gru_type": "AIGRU"}, DIN], ids=str)
def test_rows_of_every_kind(model: dict[str, Any], tmp_path: Path) -> None:
    experiment = made_experiment(tmp_path, model, COLUMNS)
    rows = pl.read_csv(tmp_path / "in" / "test.csv", infer_schema=False).cast({**DTYPES})
    expected = experiment.predict(tmp_path / "in" / "test.csv").tolist()
    assert np.std(expected) > 1e-3
    bundle = moved_bundle(experiment, tmp_path)
    read, score = RequestReader(bundle, Limits()).read, scorer_of(bundle.model)
    got = [score(read(request_of(row))).tolist() for row in rows.iter_rows(named=True)]
    assert got == [pytest.approx([value] * 2, abs=1e-5) for value in expected]
    assert len(bundle.examples) > 10
    histories = [example["user"]["item_history"] for example in bundle.examples]
    assert [] in histories and [""] not in histories
    for example in bundle.examples:
        assert all(math.isfinite(value) for value in score(read(example)))


@pytest.mark.parametrize("usage", ["init", "sum", "concat"])
@pytest.mark.parametrize("prefix", ["DIN", "DIEN"])
def test_pretrained_embeddings(prefix: str, usage: str, tmp_path: Path) -> None:
    file = tmp_path / "vectors.npz"
    keys = np.array([f"i{k}" for k in range(20)])
    np.savez(file, key=keys, value=np.random.default_rng(0).random((20, 16)))
    pretrained = {"pretrained_emb": str(file), "pretrain_dim": 16, "freeze_emb": True, "pretrain_usage": usage}
    columns = [categorical("item_id", **pretrained), sequence("item_history", share_embedding="item_id")]
    fields = {"target_field": "item_id", "sequence_field": "item_history"}
    model = {"model": prefix} | {f"{prefix.lower()}_{name}": field for name, field in fields.items()}
    experiment = made_experiment(tmp_path, model, columns)
    expected = experiment.predict(tmp_path / "in" / "test.csv").tolist()
    rows = pl.read_csv(tmp_path / "in" / "test.csv", infer_schema=False)
    file.unlink()
    bundle = moved_bundle(experiment, tmp_path)
    read, score = RequestReader(bundle, Limits()).read, scorer_of(bundle.model)
    for row, value in zip(rows.iter_rows(named=True), expected, strict=True):
        user = {"item_history": tokens(row["item_history"])}
        got = score(read({"user": user, "candidates": {"item_id": [row["item_id"]]}}))
        assert got.tolist() == pytest.approx([value], abs=1e-5)
