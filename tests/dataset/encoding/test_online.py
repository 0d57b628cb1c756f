"""Values of one request are encoded as rows of a file are."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_columns import META, categorical, numeric, sequence, write_rows
from made_data import entry, prepare_entry

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoded import EncodedSplit
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.encoding.online import FieldError, OnlineEncoder
from dien_fuxictr.dataset.encoding.reading import DTYPES

WORDS = ["", "a", "b", "c", "5", "-1", "ä", "new", "a^b", "^", "__OOV__", "__PAD__", "none"]
VALUES: dict[str, st.SearchStrategy] = {
    "str": st.sampled_from(WORDS),
    "int": st.integers(-3, 9) | st.sampled_from([2**62, -(2**63)]),
    "float": st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from([0.0, -0.0, 1.5]),
}
KNOWN = {"str": ["a", "b", "5", "", "none", "a^b"], "int": [0, 1, 5, -1], "float": [0.0, 1.5, 5.0]}
STATISTICS = {"min": -2.0, "max": 7.0, "mean": 1.3, "std": 2.1, "count": 40}


def vocabulary(dtype: str) -> dict:
    return {"__PAD__": 0, **{word: i for i, word in enumerate(KNOWN[dtype], 1)}, "__OOV__": len(KNOWN[dtype]) + 1}


@st.composite
def scalar_columns(draw: st.DrawFn) -> dict:
    dtype = draw(st.sampled_from(["str", "int", "float"]))
    column: dict[str, Any] = {"name": "x", "type": "categorical", "dtype": dtype, "vocabulary": dtype}
    if dtype != "str" and draw(st.booleans()):
        column = {"name": "x", "type": "numeric", "dtype": dtype}
        if kind := draw(st.sampled_from([None, "StandardScaler", "MinMaxScaler"])):
            column |= {"normalizer": kind, "statistics": STATISTICS}
    if draw(st.booleans()):
        column["fill_na"] = draw(st.sampled_from(KNOWN[dtype]))
    if dtype == "str" and draw(st.booleans()):
        column["empty"] = draw(st.sampled_from(["none", "unseen"]))
    if draw(st.booleans()):
        column["preprocess"] = "copy_from(y)"
    return column


@settings(max_examples=300, deadline=None)
@given(st.data(), scalar_columns())
def test_scalars_are_those_of_rows(data: st.DataObject, column: dict) -> None:
    values = data.draw(st.lists(st.none() | VALUES[column["dtype"]], min_size=1, max_size=5))
    encoder = Encoder([column], [], {dtype: vocabulary(dtype) for dtype in KNOWN})
    field = "y" if "preprocess" in column else "x"
    expected = encoder.encode_rows(pl.DataFrame({field: pl.Series(values, dtype=DTYPES[column["dtype"]])}))
    online = OnlineEncoder(encoder)
    got = online.encode_scalars(field, values)["x"]
    np.testing.assert_array_equal(got, expected.columns["x"])
    assert got.dtype == (np.float32 if column["type"] == "numeric" else np.int64)
    if column["type"] == "categorical":
        assert np.count_nonzero(got == online.oov["x"]) == encoder.unseen["x"]


def behaviours(split: EncodedSplit) -> dict[str, list[int]]:
    return {
        name: ids[table.start[0] : table.start[0] + table.length[0]].tolist()
        for table in split.tables
        for name, ids in table.columns.items()
    }


tokens = st.lists(st.none() | st.sampled_from(WORDS), max_size=9)
histories = st.none() | st.sampled_from(["", "none", "a^b", "^a^^b", "a"]) | tokens


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_histories_are_those_of_rows(data: st.DataObject) -> None:
    """Encode or refuse missing, blank, long and unaligned values as for rows."""
    common = {"type": "sequence", "dtype": "str", "vocabulary": "str"}
    common["padding"] = data.draw(st.sampled_from(["pre", "post"]))
    columns = []
    for name in ("a", "b", "c"):
        column = {"name": name, **common, "max_len": data.draw(st.integers(1, 7))}
        if data.draw(st.booleans()):
            column["fill_na"] = data.draw(st.sampled_from(["", "none", "a", "a^b", 0]))
        if data.draw(st.booleans()):
            column["empty"] = data.draw(st.sampled_from(["none", "unseen"]))
        columns.append(column)
    latest = data.draw(st.none() | st.integers(1, 7))
    encoder = Encoder(columns, [], {"str": vocabulary("str")}, latest=latest)
    encoder.tables = data.draw(st.sampled_from([[["a", "b"], ["c"]], [["a", "b", "c"]], [["a"], ["b"], ["c"]]]))
    values = {name: data.draw(histories) for name in "abc"}
    if data.draw(st.booleans()):
        values["b"] = values["c"] = values["a"]
    frame = pl.DataFrame({name: [value] for name, value in values.items()}, schema_overrides=_schema(values))
    online = OnlineEncoder(encoder)
    try:
        expected = encoder.encode_rows(frame)
    except UserError as error:
        assert "unequal length" in str(error)
        with pytest.raises(FieldError, match=r"as many behaviours as . \("):
            online.encode_histories(values)
        return
    got = online.encode_histories(values)
    assert {name: ids.tolist() for name, ids in got.items()} == behaviours(expected)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_places_of_the_behaviours_that_are_seen(data: st.DataObject) -> None:
    """Return the place of each token, also of one that contains the splitter.

    A missing token has the id of the fill value.
    """
    known = {form.format(place): place + 1 for place in range(9) for form in ("{0}", "{0}^{0}")}
    vocabulary = {"__PAD__": 0, **known, "__OOV__": 10}
    common = {"type": "sequence", "dtype": "str", "vocabulary": "place"}
    common["padding"] = data.draw(st.sampled_from(["pre", "post"]))
    columns = [{"name": name, **common, "max_len": data.draw(st.integers(1, 7))} for name in "ab"]
    columns[1]["fill_na"] = data.draw(st.sampled_from(["", 0]))
    encoder = Encoder(columns, [], {"place": vocabulary}, latest=data.draw(st.none() | st.integers(1, 7)))
    encoder.tables = [["a"], ["b"]]
    forms = data.draw(st.lists(st.sampled_from([None, "{0}", "{0}", "{0}^{0}"]), max_size=9))
    tokens = [form and form.format(place) for place, form in enumerate(forms)]
    values = {"a": tokens, "b": data.draw(st.sampled_from([tokens, None, []]))}
    online = OnlineEncoder(encoder)
    ids, places = online.encode_histories(values), online.places(values)
    for name in "ab":
        if values[name]:
            missing = known["0"] if columns["ab".index(name)].get("fill_na") == 0 else 0
            assert ids[name].tolist() == [missing if tokens[i] is None else i + 1 for i in places[name]]
        else:
            assert places[name].tolist() == [-1] * len(ids[name])


def _schema(values: dict[str, Any]) -> dict[str, Any]:
    return {name: pl.List(pl.String) if isinstance(value, list) else pl.String for name, value in values.items()}


COLUMNS = [
    META,
    categorical(["item_id", "cate_id"]),
    sequence("item_history", share_embedding="item_id"),
    sequence("cate_history", share_embedding="cate_id", padding="pre"),
    sequence("other_history", share_embedding="item_id", padding="pre", max_len=3),
    sequence("pipes", splitter="|", share_embedding="item_id"),
    sequence("gaps", fill_na="g1"),
    categorical("brand", fill_na="none"),
    categorical("zip", "int", fill_na=-1),
    categorical("copied", preprocess="copy_from(item_id)"),
    numeric("age", "int", normalizer="StandardScaler"),
    numeric("price", normalizer="MinMaxScaler"),
    numeric("score", fill_na=0.5),
]


def test_every_row_of_a_built_set(tmp_path: Path) -> None:
    """With the encoder as a build stores it."""
    params = prepare_entry(entry(write_rows(tmp_path / "in"), tmp_path, feature_cols=COLUMNS))
    encoder = Encoder.load(tmp_path / "made", params)
    online = OnlineEncoder(encoder)
    assert online.scalars["item_id"] == ["item_id", "copied"] and "user_id" not in online.scalars
    dtypes = {"zip": pl.Int64, "age": pl.Int64, "price": pl.Float64, "score": pl.Float64}
    rows = pl.read_csv(tmp_path / "in" / "test.csv", infer_schema=False).cast({**dtypes})
    expected = encoder.encode_rows(rows)
    for field in online.scalars:
        for name, got in online.encode_scalars(field, rows[field].to_list()).items():
            np.testing.assert_array_equal(got, expected.columns[name], err_msg=name)
    for i, row in enumerate(rows.select(list(online.sequences)).iter_rows(named=True)):
        for name, ids in online.encode_histories(row).items():
            table = next(table for table in expected.tables if name in table.columns)
            span = slice(table.start[i], table.start[i] + table.length[i])
            assert ids.tolist() == table.columns[name][span].tolist(), (i, name)


def test_nothing_is_kept() -> None:
    encoder = Encoder([{"name": "x", "type": "categorical", "dtype": "str", "vocabulary": "str"}], [], {})
    encoder.vocabularies = {"str": vocabulary("str")}
    online = OnlineEncoder(encoder)
    before = {token: i for token, i in vocabulary("str").items()}
    assert online.encode_scalars("x", ["unknown"])["x"].tolist() == [before["__OOV__"]]
    assert encoder.vocabularies["str"] == before


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (categorical("x"), ["a", 1.5], "x: must hold text or whole numbers, has 1.5"),
        (categorical("x"), [["a"]], r"x: must hold text or whole numbers, has \['a'\]"),
        (categorical("x"), [True], "x: must hold text or whole numbers, has True"),
        (categorical("x", "int"), ["5"], "x: must hold whole numbers, has '5'"),
        (categorical("x", "int"), [2**63], "x: holds a number that is too large"),
        (numeric("x"), [None, {"a": 1}], "x: must hold numbers, has {'a': 1}"),
        (numeric("x"), [10**400], "x: holds a number that is too large"),
        (numeric("x"), [1e300], "x: must hold numbers that a float32 can have"),
        (numeric("x", normalizer="StandardScaler", statistics=STATISTICS), [-1e300], "that a float32 can have"),
        (
            {"name": "x", "type": "embedding", "dtype": "str", "pretrain_dim": 2},
            [[1]],
            r"x: must be 2 numbers, is \[1\]",
        ),
        (
            {"name": "x", "type": "embedding", "dtype": "str", "pretrain_dim": 1},
            [["a"]],
            "x: must hold numbers, has 'a'",
        ),
    ],
)
def test_wrong_values(column: dict, values: list, message: str) -> None:
    if column["type"] == "categorical":
        column = {**column, "vocabulary": column["dtype"]}
    online = OnlineEncoder(Encoder([column], [], {dtype: vocabulary(dtype) for dtype in KNOWN}))
    with pytest.raises(FieldError, match=message):
        online.encode_scalars("x", values)


@pytest.mark.parametrize("value", [5, {"a": 1}, [["a"]], [1.5], [True]])
def test_wrong_histories(value: Any) -> None:
    encoder = Encoder([{**sequence("x"), "vocabulary": "str"}], [], {"str": vocabulary("str")})
    with pytest.raises(FieldError, match=r"x: must (be a list of tokens, is|hold text or whole numbers, has) "):
        OnlineEncoder(encoder).encode_histories({"x": value})


def test_vectors() -> None:
    column = {"name": "x", "type": "embedding", "dtype": "str", "pretrain_dim": 2}
    encoder = Encoder([column], [], {})
    values = [[0.1, 2], [3, 4.5]]
    expected = encoder.encode_rows(pl.DataFrame({"x": values}, schema={"x": pl.List(pl.Float64)})).columns["x"]
    np.testing.assert_array_equal(OnlineEncoder(encoder).encode_scalars("x", values)["x"], expected)
