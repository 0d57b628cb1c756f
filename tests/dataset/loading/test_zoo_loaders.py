"""FuxiCTR's own build and loaders, for `data_loader: zoo` and for encoded files."""

import re
import sys
from pathlib import Path

import fuxictr.preprocess  # noqa: F401  (its function build_dataset hides the module of that name)
import numpy as np
import polars as pl
import pytest
import ray
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading.checks import check_encoded
from dien_fuxictr.dataset.samples.protocols import SPLITS


@pytest.fixture
def params(tmp_path: Path) -> dict:
    return entry(as_csv(write_samples(tmp_path / "samples"), tmp_path / "csv"), tmp_path / "root")


def load(params: dict) -> tuple[FeatureMap, list]:
    data_dir = Path(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), params)
    return feature_map, list(RankDataLoader(feature_map, stage="both", **params))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_building_through_the_zoo(params: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run FuxiCTR's build_dataset with lock and fingerprint, in this process."""

    def transform(encoder, rows, split, block_size) -> None:
        columns = rows.collect()
        encoded = encoder.transform({name: columns[name].to_numpy() for name in columns.columns})
        pl.DataFrame({name: list(values) for name, values in encoded.items()}).write_parquet(
            Path(encoder.data_dir) / f"{split}.parquet"
        )

    monkeypatch.setattr(sys.modules["fuxictr.preprocess.build_dataset"], "transform", transform)
    prepared = prepare_entry({**params, "data_loader": "zoo"})
    data_dir = tmp_path / "root" / "made"
    assert prepared["data_loader"] is None and prepared["train_data"] == str(data_dir / "train.parquet")
    assert prepare_entry({**params, "data_loader": "zoo"}) == prepared
    in_process = prepare_entry({**params, "data_root": str(tmp_path / "other")})
    other = Path(in_process["data_root"], "made")
    assert (data_dir / "feature_map.json").read_text() == (other / "feature_map.json").read_text()
    feature_map = FeatureMap("made", str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), params)
    check_encoded(feature_map, prepared)


def test_the_zoo_is_given_no_empty_labels(params: dict) -> None:
    """Which it would take for 0."""
    valid = pl.read_csv(params["valid_data"]).with_columns(label=pl.when(pl.int_range(pl.len()) != 4).then("label"))
    valid.write_csv(params["valid_data"])
    with pytest.raises(UserError, match=r"valid\.csv: label label is missing in row 5"):
        prepare_entry({**params, "data_loader": "zoo"})


@pytest.mark.parametrize("word", ["__OOV__", "SKU^0044"])
@pytest.mark.parametrize("name", ["item_id", "item_history", "user_id"])
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_zoo_is_given_no_value_that_it_loses(
    form: str, name: str, word: str, params: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has reserved words, and joins the lists of Parquet by "^"."""
    monkeypatch.setattr("fuxictr.preprocess.build_dataset", lambda *_, **__: pytest.fail("FuxiCTR was called"))
    for key in ("train_data", "valid_data", "test_data"):
        rows = pl.read_csv(params[key])
        if form == "parquet":
            rows = rows.with_columns(pl.col("item_history", "cate_history").fill_null("").str.split("^"))
        if key == "test_data":
            given = pl.lit(["i1", word] if form == "parquet" else f"i1^{word}") if "_history" in name else pl.lit(word)
            rows = rows.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(given).otherwise(name).alias(name))
        params[key] = params[key].removesuffix("csv") + form
        rows.write_csv(params[key]) if form == "csv" else rows.write_parquet(params[key])
    is_lost = word == "__OOV__" or (form == "parquet" and name == "item_history")
    what = "is a reserved word" if word == "__OOV__" else r"holds '\^'"
    expected = rf"loses a value that {what}: {name} = '{re.escape(word)}' in .*test\.{form}; "
    with pytest.raises(UserError if is_lost else pytest.fail.Exception, match=expected if is_lost else "was called"):
        prepare_entry({**params, "data_loader": "zoo", "data_format": form})


def encode_as(data_format: str, prepared: dict, folder: Path) -> dict:
    """Write the loader's padded batches as files of the zoo's own encoded forms."""
    folder.mkdir()
    _, loaders = load({**prepared, "batch_size": 1000, "trim_histories": False, "shuffle": False})
    paths = {}
    for split, loader in zip(SPLITS, loaders, strict=True):
        batch = {name: tensor.numpy() for name, tensor in next(iter(loader)).items()}
        path = paths[f"{split}_data"] = str(folder / f"{split}.{data_format}")
        if data_format == "npz":
            np.savez(path, **batch)
        else:
            pl.DataFrame({name: list(values) for name, values in batch.items()}).write_parquet(path)
    return paths


def test_npz_through_the_zoo(params: dict, tmp_path: Path) -> None:
    prepared = prepare_entry(params)
    paths = encode_as("npz", prepared, tmp_path / "npz")
    npz = prepare_entry({**params, **paths, "data_format": "npz", "num_workers": 0})
    assert npz["data_loader"] is None
    feature_map, (train, _, _) = load(npz)
    check_encoded(feature_map, npz)
    _, (ours, _, _) = load({**prepared, "trim_histories": False})
    for batch, expected in zip(train, ours, strict=True):
        assert {name: values.tolist() for name, values in batch.items()} == {
            name: values.tolist() for name, values in expected.items()
        }
    with pytest.raises(UserError, match=r"feature_map\.json does not exist: npz files need the feature map"):
        prepare_entry({**npz, "dataset_id": "absent"})


def test_encoded_parquet_through_the_zoo(params: dict, tmp_path: Path) -> None:
    prepared = prepare_entry(params)
    paths = encode_as("parquet", prepared, tmp_path / "parquet")
    encoded = {**params, **paths, "data_format": "parquet", "rebuild_dataset": False, "dataset_id": "encoded"}
    with pytest.raises(UserError, match="item_id: vocab_size is required"):
        prepare_entry(encoded)
    for column in encoded["feature_cols"]:
        column["vocab_size"] = 50
    encoded = prepare_entry(encoded)
    feature_map, (train, _, _) = load(encoded)
    try:
        check_encoded(feature_map, encoded)
        assert encoded["data_loader"] is None and feature_map.features["item_id"]["vocab_size"] == 50
        assert next(iter(train))["item_history"].shape == (8, 6)
    finally:
        ray.shutdown()
