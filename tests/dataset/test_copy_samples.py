"""Copies of samples have nothing in common, and each is the samples."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from made_project import make_project

from dien_fuxictr import open_experiment
from dien_fuxictr.dataset import copy_samples
from dien_fuxictr.dataset.samples.samples import Samples


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(make_project(tmp_path / "project", epochs=1, verbose=0))
    open_experiment("DIN_amazon_beauty_last", "config").prepare()
    return Path("data/amazon_beauty_last")


def read(rows: pl.DataFrame, samples: Samples) -> pl.DataFrame:
    """With histories as text, in an order of their own."""
    return pl.concat(samples.joined(rows)).sort(pl.all())


def test_each_copy_is_the_samples_under_other_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert copy_samples.main([str(folder), "--copies", "3", "--out", "data/copies"]) == 0
    one, three = Samples.load(folder / "samples"), Samples.load(Path("data/copies/samples"))
    sizes = ", ".join(f"{3 * rows.height:,} {name}" for name, rows in one.splits.items())
    assert capsys.readouterr().out == f"Wrote data/copies/samples: {sizes}\n"
    for name, rows in three.splits.items():
        copy = rows["item_id"].str.split("_").list.last()
        assert (copy == rows["user_id"].str.split("_").list.last()).all()
        assert np.mean(copy.to_numpy()[1:] == copy.to_numpy()[:-1]) < 0.5  # the rows are mixed
        for number in "012":
            its = read(rows.filter(copy == number), three)
            renamed = its.with_columns(pl.col("user_id", "item_id", "item_history").str.replace_all(f"_{number}", ""))
            assert renamed.sort(pl.all()).equals(read(one.splits[name], one))


def test_an_experiment_trains_on_them(folder: Path) -> None:
    out = Path("data/amazon_beauty_last_copies")
    assert copy_samples.main([str(folder / "samples"), "--copies", "2", "--out", str(out)]) == 0
    run = open_experiment("DIN_amazon_beauty_last", "config", overrides={"dataset_id": out.name})
    run.fit()
    assert 0 < run.evaluate()["test"].metrics["AUC"] < 1
    one = json.loads((folder / "feature_map.json").read_text())["total_features"]
    assert one < json.loads((out / "feature_map.json").read_text())["total_features"] < 2 * one  # categories are shared


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["data/amazon_beauty_last", "--out", "data/amazon_beauty_last"],
            "error: data/amazon_beauty_last/samples already exists; name a new folder",
        ),
        (["data", "--out", "data/new"], "error: data is not a folder of samples: behaviours.parquet is missing"),
        (["data/amazon_beauty_last", "--copies", "0", "--out", "data/new"], "--copies = 0 must be 1 or more"),
    ],
)
def test_wrong_input_is_one_line(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = copy_samples.main(arguments)
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not Path("data/new").exists()
