from collections import OrderedDict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from fuxictr.features import FeatureMap
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading.checks import check_encoded


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return as_csv(write_samples(tmp_path / "samples"), tmp_path / "csv")


def check(params: dict) -> None:
    params = prepare_entry(params)
    data_dir = Path(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), params)
    check_encoded(feature_map, params)


def test_good_data_pass(csv: Path, tmp_path: Path) -> None:
    check(entry(csv, tmp_path / "root"))


def test_labels_of_one_class(csv: Path, tmp_path: Path) -> None:
    pl.read_csv(csv / "valid.csv").with_columns(label=1).write_csv(csv / "valid.csv")
    with pytest.raises(UserError, match=r"valid data \(.*\): every label is 1; both classes are needed"):
        check(entry(csv, tmp_path / "root"))
    check(entry(csv, tmp_path / "root", task="regression"))


def test_sequences_of_unequal_length(csv: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(csv / "test.csv")
    longer = pl.when(pl.int_range(pl.len()) == 4).then(pl.lit("c1^c1^c1^c1^c1")).otherwise(pl.col("cate_history"))
    items = pl.when(pl.int_range(pl.len()) == 4).then(pl.lit("i1^i2")).otherwise(pl.col("item_history"))
    rows.with_columns(cate_history=longer, item_history=items).write_csv(csv / "test.csv")
    message = "test data, row 5: sequences of unequal length: item_history has 2 behaviours, cate_history has 5"
    with pytest.raises(UserError, match=message):
        check(entry(csv, tmp_path / "root"))
    check(entry(csv, tmp_path / "root", dien_sequence_field=["item_history", "cate_history"]))
    with pytest.raises(UserError, match=message):
        check(entry(csv, tmp_path / "root", dien_sequence_field="item_history", dien_neg_seq_field=["cate_history"]))


def test_unknown_categories_of_an_item_are_no_unequal_length(csv: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(csv / "test.csv")
    single = pl.when(pl.int_range(pl.len()) == 4)
    rows.with_columns(
        item_history=single.then(pl.lit("i1")).otherwise(pl.col("item_history")),
        cate_history=single.then(pl.lit("")).otherwise(pl.col("cate_history")),
    ).write_csv(csv / "test.csv", quote_style="non_numeric")
    check(entry(csv, tmp_path / "root"))


def test_raw_lengths_beyond_max_len_do_not_matter(csv: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(csv / "train.csv")
    row = pl.when(pl.int_range(pl.len()) == 4)
    rows.with_columns(
        item_history=row.then(pl.lit("^".join(["i1"] * 9))).otherwise(pl.col("item_history")),
        cate_history=row.then(pl.lit("^".join(["c1"] * 8))).otherwise(pl.col("cate_history")),
    ).write_csv(csv / "train.csv")
    check(entry(csv, tmp_path / "root"))


def test_fields_of_unequal_padding(csv: Path, tmp_path: Path) -> None:
    params = entry(csv, tmp_path / "root")
    params["feature_cols"][3]["padding"] = "pre"
    with pytest.raises(UserError, match="item_history has padding: post, cate_history has padding: pre"):
        check(params)


@pytest.fixture(params=["npz", "parquet"])
def encoded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FeatureMap, dict]:
    """Write an encoded data set."""
    made = FeatureMap("made", str(tmp_path))
    made.labels = ["label"]
    made.features = OrderedDict(
        user_id={"type": "meta"},
        item_id={"type": "categorical", "vocab_size": 5},
        price={"type": "numeric"},
        history={"type": "sequence", "vocab_size": 4, "share_embedding": "item_id", "max_len": 2},
    )
    params = {"data_format": request.param}
    for split in ("train", "valid", "test"):
        write(tmp_path / f"{split}.{request.param}", GOOD)
        params[f"{split}_data"] = str(tmp_path / f"{split}.{request.param}")
    return made, params


GOOD = {"label": [0.0, 1.0], "user_id": [700, 9], "item_id": [4, 1], "price": [99.0, 1.0], "history": [[0, 0], [1, 4]]}


def write(path: Path, columns: dict) -> None:
    if path.suffix == ".npz":
        np.savez(path, **{name: np.array(values) for name, values in columns.items()})
    else:
        pl.DataFrame(columns).write_parquet(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"history": [[0, 5], [1, 2]]}, r"test data .*: history holds the id 5; its vocabulary has 5 ids from 0"),
        ({"item_id": [-1, 2]}, r"test data .*: item_id holds the id -1"),
        ({"label": [1.0, 1.0]}, "test data .*: every label is 1"),
        ({"label": None}, "test data .*: column label is missing"),
        ({"item_id": None}, "test data .*: column item_id is missing"),
        ({name: [] for name in GOOD}, "test data .* has no rows"),
    ],
)
def test_files_encoded_elsewhere(change: dict, message: str | None, encoded: tuple[FeatureMap, dict]) -> None:
    feature_map, params = encoded
    columns = {name: values for name, values in {**GOOD, **change}.items() if values is not None}
    write(Path(params["test_data"]), columns)
    if message is None:
        check_encoded(feature_map, params)
    else:
        with pytest.raises(UserError, match=message):
            check_encoded(feature_map, params)


def test_folders_of_encoded_files(encoded: tuple[FeatureMap, dict], tmp_path: Path) -> None:
    feature_map, params = encoded
    folder = tmp_path / "blocks"
    folder.mkdir()
    for number, label in enumerate((0.0, 1.0)):
        write(folder / f"part{number}.{params['data_format']}", {**GOOD, "label": [label, label]})
    check_encoded(feature_map, {**params, "train_data": str(folder)})
    with pytest.raises(UserError, match=r"absent has no .* files"):
        check_encoded(feature_map, {**params, "train_data": str(tmp_path / "absent")})
