import errno
import json
import logging
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import SPLITS


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return as_csv(write_samples(tmp_path / "samples"), tmp_path / "csv")


@pytest.fixture
def params(csv: Path, tmp_path: Path) -> dict:
    return entry(csv, tmp_path / "root")


def load(params: dict) -> tuple[FeatureMap, list]:
    data_dir = Path(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), params)
    return feature_map, list(RankDataLoader(feature_map, stage="both", **params))


def stamp(params: dict) -> int:
    fingerprint = Path(params["data_root"], params["dataset_id"], "fingerprint.json")
    return json.loads(fingerprint.read_text())["built_at"]


def test_a_missing_set_is_built_and_then_reused(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    before = dict(params)
    prepared = prepare_entry(params)
    assert params == before
    assert prepared["data_loader"] is InMemoryDataLoader
    assert all(Path(prepared[f"{split}_data"]).is_file() for split in SPLITS)
    built = stamp(params)
    monkeypatch.setattr(
        "dien_fuxictr.dataset.loading.fingerprint.digest",
        lambda *_, **__: pytest.fail("an unchanged file was read again"),
    )
    assert prepare_entry(params) == prepared
    assert stamp(params) == built
    assert [path.name for path in Path(params["data_root"]).iterdir() if path.name != ".made.lock"] == ["made"]


def test_splits_that_an_entry_does_not_have(params: dict) -> None:
    prepared = prepare_entry({**params, "test_data": None})
    assert prepared["test_data"] is None and prepared["valid_data"]
    with pytest.raises(UserError, match=r"splits: .*train.*valid.* -> .*test.*; test_data file 1: .*test\.csv is new"):
        prepare_entry(params)


def test_building_from_raw_reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ignore the entry's own splits: they are written by the build."""
    options = {
        "source": "amazon",
        "reviews": str(tmp_path / "reviews"),
        "meta": str(tmp_path / "meta"),
        "max_len": 6,
        "raw_from": "ask the owner",
    }
    for name in ("reviews", "meta"):
        (tmp_path / name).touch()
    shown = []

    def build(given: BuildOptions, out: Path, verbose: bool) -> None:
        shown.append(verbose)
        write_samples(out)

    monkeypatch.setattr("dien_fuxictr.dataset.loading.build_set.build_samples", build)
    params = entry(tmp_path / "absent", tmp_path / "root", data_format="parquet", build=options)
    prepared = prepare_entry(params)
    prepare_entry({**params, "verbose": 1}, rebuild=True)
    assert shown == [False, True]
    assert (tmp_path / "root" / "made" / "samples" / "behaviours.parquet").is_file()
    _, (train, _, _) = load(prepared)
    assert train.num_samples == pl.read_parquet(tmp_path / "root" / "made" / "samples" / "train.parquet").height
    (tmp_path / "reviews").rename(tmp_path / "moved")
    moved = {**options, "reviews": str(tmp_path / "moved"), "raw_from": "elsewhere"}
    prepare_entry({**params, "build": moved})
    with pytest.raises(UserError, match=r"build.max_len: 6 -> 5\); --rebuild"):
        prepare_entry({**params, "build": {**moved, "max_len": 5}})
    with pytest.raises(UserError, match="data_loader: zoo cannot read samples that share histories"):
        prepare_entry({**params, "dataset_id": "other", "build": moved, "data_loader": "zoo"})


def test_missing_files(params: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"valid_data: no csv file matches .*absent\.csv; .*; to get it: ask the owner"):
        prepare_entry({**params, "valid_data": str(tmp_path / "absent.csv"), "raw_from": "ask the owner"})
    with pytest.raises(UserError, match="train_data is missing"):
        prepare_entry({**params, "train_data": None})
    assert not (tmp_path / "root" / "made").exists()


def test_a_built_set_outlives_its_raw_files(params: dict, csv: Path, caplog: pytest.LogCaptureFixture) -> None:
    prepared = prepare_entry(params)
    for split in SPLITS:
        (csv / f"{split}.csv").unlink()
    with caplog.at_level(logging.INFO):
        assert prepare_entry(params) == prepared
    assert sum("no longer exist; it is used unchanged" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_categr_count": 3}, "min_categr_count: 1 -> 3"),
        ({"n_rows": 5}, "n_rows: None -> 5"),
        ({"label_col": {"name": "label", "dtype": "int"}}, "label_col.label.dtype: float -> int"),
        ({"data_loader": "zoo"}, "data_loader: in_memory -> zoo"),
    ],
)
def test_changed_keys(change: dict, message: str, params: dict) -> None:
    prepare_entry(params)
    built = stamp(params)
    with pytest.raises(UserError, match=f"was built from other files or keys .*{message}.*; --rebuild builds it again"):
        prepare_entry({**params, **change})
    assert stamp(params) == built


def test_changed_columns_are_named(params: dict) -> None:
    prepare_entry(params)
    params["feature_cols"][2]["max_len"] = 3
    with pytest.raises(UserError, match=r"\(feature_cols.item_history.max_len: 6 -> 3\)"):
        prepare_entry(params)
    params["feature_cols"][2] |= {"max_len": 6, "active": False}
    with pytest.raises(UserError, match=r"feature_cols.item_history.type: sequence -> \(absent\)"):
        prepare_entry(params)


def test_keys_that_do_not_influence_the_build(params: dict, csv: Path, tmp_path: Path) -> None:
    prepared = prepare_entry(params)
    (tmp_path / "moved").mkdir()
    for split in SPLITS:
        (csv / f"{split}.csv").rename(tmp_path / "moved" / f"{split}.csv")
        params[f"{split}_data"] = str(tmp_path / "moved" / f"{split}.csv")
    again = prepare_entry({**params, "batch_size": 99, "model": "DIN", "data_block_size": 7, "rebuild_dataset": True})
    assert again["train_data"] == prepared["train_data"]


def test_changed_files(params: dict, csv: Path) -> None:
    prepare_entry(params)
    file = csv / "train.csv"
    content = file.read_text()
    os.utime(file, ns=(1, 1))
    prepare_entry(params)  # the same content at another time
    file.write_text(content + content.splitlines()[-1] + "\n")
    with pytest.raises(UserError, match=r"train_data file 1: the content of .*train\.csv changed"):
        prepare_entry(params)
    rebuilt = prepare_entry(params, rebuild=True)
    assert load(rebuilt)[1][0].num_samples == len(content.splitlines())
    prepare_entry(params)


def test_changed_behaviours_of_samples_are_detected(tmp_path: Path) -> None:
    samples = write_samples(tmp_path / "samples")
    params = entry(samples, tmp_path / "root", data_format="parquet")
    prepared = prepare_entry(params)
    (samples / "behaviours.parquet").unlink()
    assert prepare_entry(params) == prepared
    write_samples(samples, seed=1)
    with pytest.raises(UserError, match=r"behaviours of train_data: the content of .*behaviours\.parquet changed"):
        prepare_entry(params)


def test_rebuilding_keeps_what_the_build_did_not_write(params: dict, tmp_path: Path) -> None:
    data_dir = tmp_path / "root" / "made"
    data_dir.mkdir(parents=True)
    (data_dir / "mine.csv").write_text("mine")
    prepare_entry(params)
    (data_dir / "encoded" / "mine.npz").write_text("mine")
    built = stamp(params)
    for column in params["feature_cols"]:
        column["max_len"] = 2
    prepare_entry(params, rebuild=True)
    assert stamp(params) > built
    assert (data_dir / "mine.csv").read_text() == (data_dir / "encoded" / "mine.npz").read_text() == "mine"


@pytest.mark.parametrize("loader", ["in_memory", "zoo"])
def test_a_wrong_label_is_reported_of_the_users_file(params: dict, csv: Path, loader: str) -> None:
    file = csv / "valid.csv"
    rows = pl.read_csv(file).with_row_index()
    rows.with_columns(label=pl.when(pl.col("index") == 4).then(2).otherwise("label")).drop("index").write_csv(file)
    with pytest.raises(UserError) as caught:
        prepare_entry({**params, "data_loader": loader})
    assert str(caught.value) == f"{file}: row 5: label = 2 must be 0 or 1, unless task: regression"
    assert not Path(params["data_root"], params["dataset_id"]).exists()
    if loader == "in_memory":
        prepare_entry({**params, "data_loader": loader, "task": "regression"})


def test_a_failing_rebuild_leaves_the_old_set(params: dict, csv: Path) -> None:
    prepared = prepare_entry(params)
    text = (csv / "test.csv").read_text()
    (csv / "test.csv").write_text(text.replace("label", "other"))
    with pytest.raises(UserError, match="column label is missing"):
        prepare_entry(params, rebuild=True)
    (csv / "test.csv").write_text(text)
    assert prepare_entry(params) == prepared
    assert not list(Path(params["data_root"]).glob("*building*"))


def test_a_file_in_the_way_is_not_overwritten(params: dict, tmp_path: Path) -> None:
    mine = tmp_path / "root" / "made" / "encoded" / "train.npz"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UserError, match=r"train\.npz already exists and was not written by a build"):
        prepare_entry(params)
    assert mine.read_text() == "mine" and not (tmp_path / "root" / "made" / "feature_map.json").exists()


def test_a_full_disk(params: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args, **kwargs) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(UserError, match=r"cannot build .*made: the disk is full; the files written so far were"):
            prepare_entry(params)
    assert {path.name for path in Path(params["data_root"]).iterdir()} <= {".made.lock"}
    prepare_entry(params)


def test_a_folder_that_cannot_be_written(params: dict, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot lock .*file"):
        prepare_entry({**params, "data_root": str(tmp_path / "file")})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_format": None}, "data_format is missing"),
        ({"data_format": "npz", "data_loader": "in_memory"}, "in_memory reads csv and raw parquet"),
        ({"valid_size": 0.1}, "valid_size = 0.1 is not supported: FuxiCTR cannot split"),
        ({"feature_cols": []}, "feature_cols is missing"),
        ({"label_col": None}, "label_col is missing"),
    ],
)
def test_wrong_entries(change: dict, message: str, params: dict) -> None:
    with pytest.raises(UserError, match=message):
        prepare_entry({**params, **change})


def test_dropped_behaviours_are_warned_of_once_a_run(params: dict, caplog: pytest.LogCaptureFixture) -> None:
    for column in params["feature_cols"]:
        column["max_len"] = 2
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            prepare_entry(params)
        messages = [record.getMessage() for record in caplog.records if "drops the newest" in record.getMessage()]
        rows = sum(
            pl.read_csv(params[f"{split}_data"])["item_history"].str.count_matches(r"\^").gt(1).sum()
            for split in SPLITS
        )
        assert len(messages) == 1 and f"item_history ({rows} rows)" in messages[0]


def test_a_set_that_fuxictr_built(params: dict, tmp_path: Path) -> None:
    data_dir = tmp_path / "root" / "made"
    data_dir.mkdir(parents=True)
    (data_dir / "feature_map.json").write_text("{}")
    prepared = prepare_entry(params)
    assert prepared["data_loader"] is None and prepared["train_data"] == str(data_dir / "train.parquet")
    assert prepare_entry({**params, "data_block_size": 5})["valid_data"] == str(data_dir / "valid")
    encoded = {**params, "data_format": "parquet", "train_data": "x.parquet"}
    assert prepare_entry(encoded)["train_data"] == "x.parquet"
    for change, rebuild in (({}, True), ({"build": {}}, False)):
        with pytest.raises(UserError, match=r"has a feature_map\.json but no fingerprint\.json"):
            prepare_entry({**params, **change}, rebuild=rebuild)
    assert (data_dir / "feature_map.json").read_text() == "{}"
