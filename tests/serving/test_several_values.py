"""Multi-valued columns, such as tags: the server scores a row as `--predict` does."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from made_columns import META, categorical, numeric, sequence
from made_experiment import HISTORIES, MODEL, made_experiment
from made_requests import spread_dien

from dien_fuxictr import Experiment
from dien_fuxictr.dataset.apply import apply_build, with_log
from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.write import write_bundle

SEVERAL: dict[str, Any] = {"splitter": "|", "feature_encoder": "layers.MaskedAveragePooling()"}
COLUMNS = [
    META,
    categorical(["item_id", "cate_id", "brand"]),
    *(sequence(name, share_embedding=root) for name, root in zip(HISTORIES, ("item_id", "cate_id"), strict=True)),
    sequence("tags", **SEVERAL),
    sequence("languages", **SEVERAL),
    numeric("price", fill_na=7.5, normalizer="StandardScaler"),
]
OPTIONS = {"user": "uid", "item": "iid", "category": "cid", "time": "ts", "negatives": "uniform"}
TAGS = [None, "", "t1", "t1|t2", "t3|t1|t2", "t2"]
START, HOUR = 1_704_067_200, 3600


def log_of_items() -> pl.DataFrame:
    """Return clicks on twelve items, some without tags, brand or price, of users with and without languages."""
    rows = [
        {
            "uid": f"u{user}",
            "iid": f"i{item}",
            "cid": f"c{item % 3}",
            "ts": START + HOUR * (7 * user + step),
            "brand": None if item % 4 == 0 else f"b{item % 2}",
            "tags": TAGS[item % len(TAGS)],
            "price": None if item % 5 == 0 else float(item),
            "languages": [None, "", "l1|l2", "l2"][user % 4],
        }
        for user in range(12)
        for step in range(5)
        for item in [(5 * user + step * (user % 3 + 1)) % 12]
    ]
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Return a model with random weights on a set that is built from the log."""
    folder = tmp_path_factory.mktemp("several")
    log_of_items().write_parquet(folder / "log.parquet")
    build = {"source": "log", "input": str(folder / "log.parquet"), **OPTIONS}
    build |= {"side": ["brand", "tags", "price"], "context": ["languages"]}
    experiment = made_experiment(folder, MODEL, COLUMNS, data_format="parquet", build=build)
    torch.manual_seed(0)
    checkpoint.save(spread_dien(experiment.model).state_dict(), experiment.checkpoint)
    return experiment


@pytest.mark.parametrize("nothing", [None, [], [""]], ids=str)
def test_missing_list_scores_as_a_row_of_the_log(nothing: list | None, experiment: Experiment, tmp_path: Path) -> None:
    log = log_of_items()
    rows = log.unique(["iid", "languages"], maintain_order=True).with_columns(ts=START + 1000 * HOUR)
    rows.write_parquet(tmp_path / "rows.parquet")
    entry = DatasetEntry.of(with_log(experiment.params, None))
    apply_build(entry, tmp_path / "rows.parquet", tmp_path / "applied.parquet", verbose=False)
    applied = pl.read_parquet(tmp_path / "applied.parquet")
    expected = experiment.predict(tmp_path / "applied.parquet")

    own = applied.with_columns(rows["brand"], rows["price"], rows["tags"], rows["languages"])
    lists = own.with_columns(pl.col("tags", "languages").replace("", None).str.split("|"))
    lists = lists.with_columns(pl.col("tags", "languages").fill_null(pl.lit(nothing, dtype=pl.List(pl.String))))
    for same in (own, lists):
        np.testing.assert_allclose(experiment.predict(same), expected, rtol=0, atol=1e-6)

    write_bundle(experiment, tmp_path / "bundle", [])
    bundle = open_bundle(tmp_path / "bundle")
    read, score = RequestReader(bundle, Limits()).read, scorer_of(bundle.model)
    for row, value in zip(lists.iter_rows(named=True), expected, strict=True):
        user = {name: row[name] for name in (*HISTORIES, "tags", "languages")}
        candidates = {name: [row[name]] for name in ("item_id", "cate_id", "brand", "price")}
        assert score(read({"user": user, "candidates": candidates})).tolist() == pytest.approx([value], abs=1e-5), row
    assert len({round(float(value), 4) for value in expected}) > 10
