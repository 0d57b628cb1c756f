import gc
import json
import logging
import weakref
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from fuxictr.features import FeatureMap
from made_data import as_csv, entry, prepare_entry, write_samples

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoded import load_split
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.reading import SplitReader
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return write_samples(tmp_path / "in")


@pytest.fixture
def params(samples: Path, tmp_path: Path) -> dict:
    return prepare_entry(entry(samples, tmp_path, data_format="parquet"))


@pytest.fixture
def feature_map(params: dict, tmp_path: Path) -> FeatureMap:
    made = FeatureMap("made", str(tmp_path / "made"))
    made.load(str(tmp_path / "made" / "feature_map.json"), params)
    return made


def assert_same(actual: InMemoryDataLoader, expected: InMemoryDataLoader, without: tuple[str, ...] = ()) -> None:
    for batch, other in zip(actual, expected, strict=True):
        assert batch.keys() == other.keys() - set(without)
        for name in batch:
            assert torch.equal(batch[name], other[name]), name


def test_a_file_of_the_data_set_is_encoded_as_its_split(
    samples: Path, params: dict, feature_map: FeatureMap, tmp_path: Path
) -> None:
    expected = InMemoryDataLoader(feature_map, params["test_data"], batch_size=8)
    encoder = Encoder.load(tmp_path / "made", params)

    def encoded(file: Path) -> InMemoryDataLoader:
        return InMemoryDataLoader.from_encoded(feature_map, encoder.encode_rows(file), batch_size=8)

    assert_same(encoded(samples / "test.parquet"), expected, without=("label",))
    csv = as_csv(samples, tmp_path / "csv")
    assert_same(encoded(csv / "test.csv"), expected, without=("label",))
    rows = pl.read_csv(csv / "test.csv").drop("label", "user_id")
    rows.with_columns(pl.col("item_history", "cate_history").fill_null("").str.split("^")).write_parquet(
        tmp_path / "lists.parquet"
    )
    assert_same(encoded(tmp_path / "lists.parquet"), expected, without=("label", "user_id"))


def test_unseen_values_are_counted(params: dict, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text(
        "user_id,item_id,cate_id,item_history,cate_history\nu0,i0,c0,i1^new,c1^c2\nnobody,new,c1,,\nu1,i2,c2,new,c9\n"
    )
    encoder = Encoder.load(tmp_path / "made", params)
    split = encoder.encode_rows(tmp_path / "new.csv")
    assert encoder.unseen == {"item_id": 1, "cate_id": 0, "item_history": 2, "cate_history": 1}
    vocabulary = json.loads((tmp_path / "made" / "feature_vocab.json").read_text())
    expected = [vocabulary["item_id"]["i0"], vocabulary["item_id"]["__OOV__"], vocabulary["item_id"]["i2"]]
    assert split.columns["item_id"].tolist() == expected
    assert split.tables[0].length.tolist() == [2, 0, 1] and len(split) == 3
    assert "label" not in split.columns


def test_rows_of_a_frame_are_those_of_a_file(params: dict, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_id,cate_id,item_history,cate_history\ni0,c0,i1^i2,c1^c0\n")
    encoder = Encoder.load(tmp_path / "made", params)
    expected = encoder.encode_rows(tmp_path / "new.csv")
    frame = pl.DataFrame(
        {"item_id": ["i0"], "cate_id": ["c0"], "item_history": [["i1", "i2"]], "cate_history": ["c1^c0"]}
    )
    encoded = encoder.encode_rows(frame)
    assert all(np.array_equal(encoded.columns[name], expected.columns[name]) for name in ("item_id", "cate_id"))
    for name in ("item_history", "cate_history"):
        ours, theirs = (next(t for t in rows.tables if name in t.columns) for rows in (encoded, expected))
        assert np.array_equal(ours.columns[name], theirs.columns[name])
    with pytest.raises(UserError, match=r"the frame: column cate_id is missing; it needs .* and has item_id"):
        encoder.encode_rows(frame.drop("cate_id"))


def test_what_no_row_refers_to_is_not_counted_as_unseen(samples: Path, params: dict, tmp_path: Path) -> None:
    """Count the new behaviours that a history contains, not all stored ones.

    Two stored behaviours are new; one of them is in a history, which two rows of the file share.
    """
    behaviours, rows = pl.read_parquet(samples / "behaviours.parquet"), pl.read_parquet(samples / "test.parquet")
    start = rows["history_start"][0]
    used = pl.int_range(pl.len()) == start
    unused = pl.int_range(pl.len()) == start + rows["history_length"][0]  # what is to be predicted
    behaviours = behaviours.with_columns(
        item_history=pl.when(used | unused).then(pl.lit("new")).otherwise("item_history"),
        cate_history=pl.when(unused).then(pl.lit("new")).otherwise("cate_history"),
    )
    (tmp_path / "new").mkdir()
    behaviours.write_parquet(tmp_path / "new" / "behaviours.parquet")
    rows.write_parquet(tmp_path / "new" / "test.parquet")
    encoder = Encoder.load(tmp_path / "made", params)
    encoder.encode_rows(tmp_path / "new" / "test.parquet")
    assert (encoder.unseen["item_history"], encoder.unseen["cate_history"]) == (1, 0)


def test_splits_share_stored_behaviours(samples: Path, params: dict) -> None:
    encoder = Encoder.load(samples.parent / "made", params)
    reader = SplitReader(encoder.columns, encoder.labels)
    raw = [reader.read(samples / f"{split}.parquet", "parquet") for split in ("valid", "test")]
    (_, valid), (_, test) = map(encoder.encode, raw)
    for name in ("item_history", "cate_history"):
        assert valid[name].ids is test[name].ids
    assert not np.array_equal(valid["item_history"].ids, valid["cate_history"].ids)
    kept = [weakref.ref(each) for each in (raw[0].histories["item_history"].tokens, valid["item_history"].ids)]
    del raw, reader, valid, test, _
    gc.collect()
    assert [each() for each in kept] == [None, None]


def test_labels_of_new_rows_are_not_read(params: dict, tmp_path: Path) -> None:
    labels = ["", "yes", *["1"] * 200, "no"]
    rows = "".join(f"{label},i0,c0,i1,c1\n" for label in labels)
    (tmp_path / "new.csv").write_text("label,item_id,cate_id,item_history,cate_history\n" + rows)
    split = Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "new.csv")
    assert split.columns.keys() == {"item_id", "cate_id"} and len(split) == len(labels)


def test_only_used_features_are_needed(params: dict, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_id,item_history\ni0,i1^i2\n")
    with pytest.raises(UserError, match="columns cate_id, cate_history are missing; it needs item_id, "):
        Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "new.csv")
    encoder = Encoder.load(tmp_path / "made", {**params, "use_features": ["item_id", "item_history"]})
    split = encoder.encode_rows(tmp_path / "new.csv")
    assert set(split.columns) == {"item_id"} and set(split.tables[0].columns) == {"item_history"}


def test_rows_of_nothing_but_sequences(params: dict, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_history\ni1^i2\ni3\ni4\n")
    split = Encoder.load(tmp_path / "made", {**params, "use_features": ["item_history"]}).encode_rows(
        tmp_path / "new.csv"
    )
    assert not split.columns and len(split) == 3


def test_what_is_encoded_in_memory_is_what_a_build_stores(samples: Path, params: dict, tmp_path: Path) -> None:
    """Numbers of behaviours (a padding follows the last) and their types too."""
    split = Encoder.load(tmp_path / "made", params).encode_rows(samples / "test.parquet")
    stored = load_split(Path(params["test_data"]))
    arrays, expected = (
        {**each.columns, **each.tables[0].columns, "start": each.tables[0].start, "length": each.tables[0].length}
        for each in (split, stored)
    )
    assert len(split.tables) == len(stored.tables) == 1 and arrays.keys() == expected.keys() - {"label"}
    for name, array in arrays.items():
        assert array.dtype == expected[name].dtype
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert {str(arrays[name].dtype) for name in ("user_id", "item_id", "item_history")} == {"int32"}
    assert arrays["item_history"][-1] == 0


def test_sequences_of_unequal_length_in_a_row(params: dict, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("item_id,cate_id,item_history,cate_history\ni0,c0,i1,c1\ni0,c0,i1^i2,c1\n")
    with pytest.raises(UserError, match="row 2: sequences of unequal length: item_history has 2, cate_history has 1"):
        Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "new.csv")


def test_dropped_behaviours_are_counted_once(params: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    long = "^".join(f"i{k}" for k in range(9))
    (tmp_path / "new.csv").write_text(f"item_id,cate_id,item_history,cate_history\ni0,c0,{long},{long}\ni0,c0,i1,c1\n")
    with caplog.at_level(logging.WARNING):
        split = Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "new.csv")
    assert [record.getMessage() for record in caplog.records] == [
        "max_len with padding: post keeps the oldest behaviours and drops the newest: item_history (1 rows), "
        "cate_history (1 rows); padding: pre for these columns in feature_cols keeps the newest"
    ]
    assert split.tables[0].length.tolist() == [6, 1]


LONG = [f"i{k}" for k in range(9)]


def encode_long(samples: Path, folder: Path, **changes) -> tuple[list[str], Encoder]:
    """Return what remains of a history of nine items, if columns hold six."""
    params = prepare_entry(entry(samples, folder, data_format="parquet"))
    state = json.loads((folder / "made" / "encoder.json").read_text()) | changes
    (folder / "made" / "encoder.json").write_text(json.dumps({k: v for k, v in state.items() if v != "absent"}))
    encoder = Encoder.load(folder / "made", params)
    history = "^".join(LONG)
    split = encoder.encode_rows(
        pl.DataFrame({"item_id": "i0", "cate_id": "c0", "item_history": history, "cate_history": history})
    )
    (table,) = split.tables
    items = {i: item for item, i in encoder.vocabularies["item_id"].items()}
    kept = table.columns["item_history"][table.start[0] : table.start[0] + table.length[0]]
    return [items[int(i)] for i in kept], encoder


@pytest.mark.parametrize(
    ("built", "kept", "truncated"),
    [(None, LONG[:6], 1), (4, LONG[-4:], 0), (6, LONG[-6:], 0), (8, LONG[1:7], 1), (9, LONG[:6], 1)],
    ids=["not built", "fewer than max_len", "max_len", "more than max_len", "all"],
)
def test_new_rows_keep_the_behaviours_that_training_rows_kept(
    built: int | None, kept: list[str], truncated: int, samples: Path, tmp_path: Path
) -> None:
    """Cut new rows like the training rows.

    Histories of built samples are first cut to their most recent behaviours; a history that is still too long is cut by
    the zoo's rule.
    """
    if built:
        (samples / "samples.json").write_text(json.dumps({"options": {"max_len": built}}))
    left, encoder = encode_long(samples, tmp_path)
    assert left == kept
    assert encoder.truncated == {"item_history": truncated, "cate_history": truncated}


def test_old_set_takes_max_len_from_its_samples(samples: Path, tmp_path: Path) -> None:
    assert encode_long(samples, tmp_path, latest="absent")[0] == LONG[:6]
    folder = tmp_path / "made" / "samples"  # it exists because the entry has a build section
    folder.mkdir()
    (folder / "samples.json").write_text(json.dumps({"options": {"max_len": 4}}))
    assert encode_long(samples, tmp_path, latest="absent")[0] == LONG[-4:]


def test_unequal_sequences_are_not_cut_to_equal_length(samples: Path, tmp_path: Path) -> None:
    (samples / "samples.json").write_text(json.dumps({"options": {"max_len": 4}}))
    _, encoder = encode_long(samples, tmp_path)
    rows = {"item_id": ["i0"], "cate_id": ["c0"], "item_history": ["a^b^c^d^e^f"], "cate_history": ["a^b^c^d^e"]}
    with pytest.raises(UserError, match="row 1: sequences of unequal length: item_history has 6, cate_history has 5"):
        encoder.encode_rows(pl.DataFrame(rows))


def test_integer_vocabularies_come_back_as_integers(samples: Path, tmp_path: Path) -> None:
    csv = as_csv(samples, tmp_path / "csv")
    for split in ("train", "valid", "test"):
        rows = pl.read_csv(csv / f"{split}.csv")
        rows = rows.with_columns(age=pl.int_range(pl.len()) % 7, score=pl.int_range(pl.len()) / 3)
        rows.write_csv(csv / f"{split}.csv")
    columns = [
        {"name": "age", "dtype": "int", "type": "categorical"},
        {"name": "score", "dtype": "float", "type": "numeric", "normalizer": "StandardScaler"},
    ]
    params = prepare_entry(entry(csv, tmp_path, dataset_id="numbers", feature_cols=columns))
    encoder = Encoder.load(tmp_path / "numbers", params)
    split = encoder.encode_rows(csv / "test.csv")
    with np.load(params["test_data"]) as stored:
        for name in ("age", "score"):
            np.testing.assert_array_equal(split.columns[name], stored[f"column/{name}"])
    assert encoder.unseen == {"age": 0}


def test_vectors(tmp_path: Path) -> None:
    frame = pl.DataFrame({"label": [0, 1, 1], "item_id": ["a", "b", "a"], "image": [[0.5, 1], [2, 3], [4, 5]]})
    for split in ("train", "valid", "test"):
        frame.write_parquet(tmp_path / f"{split}.parquet")
    columns = [
        {"name": "item_id", "dtype": "str", "type": "categorical"},
        {"name": "image", "dtype": "float", "type": "embedding", "pretrain_dim": 2},
    ]
    params = prepare_entry(entry(tmp_path, tmp_path, data_format="parquet", feature_cols=columns, group_id=None))
    split = Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "test.parquet")
    assert split.columns["image"].tolist() == [[0.5, 1], [2, 3], [4, 5]]
    frame.with_columns(image=pl.Series([[1.0, 2], [1], [1, 2]])).write_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(UserError, match="column image: row 2 has 1 numbers; must be 2"):
        Encoder.load(tmp_path / "made", params).encode_rows(tmp_path / "ragged.parquet")


def test_no_pickle_is_written_or_needed(params: dict, tmp_path: Path) -> None:
    assert not list((tmp_path / "made").rglob("*.pkl"))
    with np.load(params["train_data"], allow_pickle=False) as arrays:
        assert all(array.dtype != object for array in arrays.values())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "encoder.json does not exist: only data sets built in-process"),
        ("{", r"encoder.json is damaged \(.*\); --rebuild builds the data set again"),
        ("{}", "encoder.json is damaged"),
        ('{"format": 99}', "format = 99 in .*encoder.json must be 1; --rebuild"),
    ],
)
def test_encoders_that_cannot_be_read(content: str | None, message: str, params: dict, tmp_path: Path) -> None:
    file = tmp_path / "made" / "encoder.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match=message):
        Encoder.load(tmp_path / "made", params)
