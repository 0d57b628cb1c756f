import gzip
import logging
from pathlib import Path

import polars as pl
import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.behaviour_log import NEEDED, read_log, read_log_in_batches
from dien_fuxictr.dataset.samples.times import ACCEPTED

NOON = 1_704_110_400
LOG = pl.DataFrame(
    {
        "uid": ["u1", "u^1", "u2"],
        "iid": [7, 8, 7],
        "cid": ["shoes", None, "a^b"],
        "ts": [NOON + 60, NOON, NOON + 20],
        "brand": ["x", "", None],
        "price": [1.5, None, 2.0],
        "clicked": [True, False, True],
        "req": [1, 1, 2],
    }
)
COLUMNS = {"user": "uid", "item": "iid", "category": "cid", "time": "ts"}


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv().encode()
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def times(values: list, path: Path, **options) -> list[int]:
    frame = pl.DataFrame({"uid": "u", "iid": "i", "cid": "c", "ts": values})
    return read_log(write(frame, path), **COLUMNS, **options)["time"].to_list()


@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz", "log.parquet"])
def test_a_log_of_any_form(name: str, tmp_path: Path) -> None:
    log = read_log(write(LOG, tmp_path / name), **COLUMNS, label="clicked", request="req", side=("brand", "price"))
    assert log.columns == ["user_id", "item_id", "cate_id", "time", "label", "request", "brand", "price"]
    assert log.rows() == [
        ("u1", "7", "shoes", NOON + 60, 1, "1", "x", "1.5"),
        ("u^1", "8", "unknown", NOON, 0, "1", "unknown", "unknown"),
        ("u2", "7", "a^b", NOON + 20, 1, "2", "unknown", "2.0"),
    ]
    assert log.schema["label"] == pl.Int8 and log.schema["time"] == pl.Int64
    assert read_log(tmp_path / name, **COLUMNS).columns == ["user_id", "item_id", "cate_id", "time"]


INTER = """user_id:token\titem_id:token\trating:float\ttimestamp:float
u1\t7\t3\t881250949
u2\t8\t2\t881250950
u1\t9\t5\t881250951
"""
ITEM = """item_id:token\tmovie_title:token_seq\tyear:token\tclass:token_seq
7\tToy, Story\t1995\tAnimation Comedy
8\tGoldenEye\t\tAction
7\ta second row\t2000\tDrama
"""
RECBOLE = {"user": "user_id", "item": "item_id", "category": "class", "time": "timestamp"}


@pytest.fixture
def atomic(tmp_path: Path) -> dict:
    """RecBole's atomic files, as arguments."""
    (tmp_path / "x.inter").write_text(INTER)
    (tmp_path / "x.item").write_text(ITEM)
    return {"path": tmp_path / "x.inter", "items": tmp_path / "x.item", **RECBOLE}


def test_atomic_files(atomic: dict, caplog: pytest.LogCaptureFixture) -> None:
    """Read columns of the log first, then those of an item's first row.

    Nothing is known of item 9.
    """
    caplog.set_level("INFO")
    log = read_log(**atomic, side=("rating", "year"))
    assert log.columns == ["user_id", "item_id", "cate_id", "time", "rating", "year"]
    assert log.rows() == [
        ("u1", "7", "Animation Comedy", 881250949, "3", "1995"),
        ("u2", "8", "Action", 881250950, "2", "unknown"),
        ("u1", "9", "unknown", 881250951, "5", "unknown"),
    ]
    assert f"2 of 3 items are in {atomic['items']}" in caplog.text


def test_a_log_that_has_a_property_itself(tmp_path: Path) -> None:
    items = pl.DataFrame({"iid": [7, 8], "cid": ["other", "other"], "maker": ["m", "n"]})
    items = write(items, tmp_path / "items.parquet")
    log = read_log(write(LOG, tmp_path / "log.csv"), **COLUMNS, side=("maker",), items=items)
    assert log.select("cate_id", "maker").rows() == [("shoes", "m"), ("unknown", "n"), ("a^b", "m")]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"category": "genre"}, r"neither .*x\.inter nor .*x\.item has a column 'genre'"),
        ({"item": "movie_title"}, r"x\.inter has no column 'movie_title'; it has user_id, item_id, rating, timestamp"),
        ({"item": "rating"}, r"x\.item has no column 'rating'; it has item_id, movie_title, year, class"),
        ({"items": Path("absent.item")}, r"raw file absent\.item does not exist"),
    ],
)
def test_atomic_files_that_lack_something(changed: dict, message: str, atomic: dict) -> None:
    with pytest.raises(UserError, match=message):
        read_log(**(atomic | changed))


def test_a_broken_row_of_an_atomic_file(atomic: dict) -> None:
    atomic["items"].write_text(ITEM + "9\tOne field short\t1999\n")
    with pytest.raises(UserError, match=r"x\.item: line 5 has 3 fields where the header has 4; .*--skip-bad-lines"):
        read_log(**atomic)
    assert read_log(**atomic, skip_bad_lines=True)["cate_id"].to_list() == ["Animation Comedy", "Action", "unknown"]


@pytest.mark.parametrize(
    ("column", "values", "shown"),
    [
        ("uid", ["u1", None, "u"], f"uid (None): {NEEDED}"),
        ("iid", ["i", "", ""], f"iid (''): {NEEDED}"),
        ("ts", [NOON, None, NOON], f"ts (None): {NEEDED}"),
        ("ts", ["2024-01-01", "yesterday", "2024-01-02"], f"ts ('yesterday'): {ACCEPTED}"),
        ("ts", ["2024-01-01", "17", "2024-01-02"], f"ts ('17'): {ACCEPTED}"),
        ("ts", [f"{NOON}", "2024-01-01", f"{NOON}"], f"ts ('2024-01-01'): {ACCEPTED}"),
        ("ts", [NOON, float("nan"), NOON], f"ts (nan): {NEEDED}"),
        ("req", [1, None, 1], f"req (None): {NEEDED}"),
    ],
)
def test_broken_rows(column: str, values: list, shown: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = LOG.with_columns(pl.Series(column, values, strict=False))
    path = write(frame, tmp_path / "log.parquet")
    options = {**COLUMNS, "label": "clicked", "request": "req"}
    broken = 2 if column == "iid" else 1
    with pytest.raises(UserError) as caught:
        read_log(path, **options)
    end = f"broken rows: {broken} of 3 read; --skip-bad-lines leaves such rows out"
    assert f"{path}: row 2 has no usable {shown}; {end}" == str(caught.value)
    left = read_log(path, **options, skip_bad_lines=True)
    assert left.height == 3 - broken and left["user_id"][0] == "u1"
    assert f"left out {broken} broken rows (row 2 has no usable {shown})" in caplog.text


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_batches_count_broken_rows_once(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = pl.concat([LOG] * 4).with_columns(uid=pl.Series(["a", "a", "", "a", "a", "a", "", "", "a", "a", "a", "a"]))
    path = write(log, tmp_path / name)
    batches = read_log_in_batches(path, **COLUMNS, skip_bad_lines=True, rows=2)
    for _ in range(2):
        assert sum(rows.height for rows, _ in batches()) == 9
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(f"{path}: left out 3 broken rows (row 3 has no usable uid (")
    with pytest.raises(UserError, match=r"row 3 has no usable uid .*; broken rows: 1 of \d+ read; --skip-bad-lines"):
        list(read_log_in_batches(path, **COLUMNS, rows=4)())


def test_no_time_can_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UserError, match=r"row 1 has no usable ts \('never'\)"):
        times(["never"], tmp_path / "log.csv")
    with pytest.raises(UserError, match=r"log\.csv has no rows"):
        times(["never"], tmp_path / "log.csv", skip_bad_lines=True)
    with pytest.raises(UserError, match=r"column 'ts' holds no times: .*Duration"):
        times(pl.Series([1]).cast(pl.Duration), tmp_path / "log.parquet")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["1", "0", "1"], [1, 0, 1]),
        (["1.0", "0.0", "0"], [1, 0, 0]),
        (["True", "false", "TRUE"], [1, 0, 1]),
        ([0, 1, 1], [0, 1, 1]),
        ([1.0, 0.0, 0.0], [1, 0, 0]),
    ],
)
def test_labels(labels: list, expected: list[int], tmp_path: Path) -> None:
    path = write(LOG.with_columns(clicked=pl.Series(labels)), tmp_path / "log.parquet")
    assert read_log(path, **COLUMNS, label="clicked")["label"].to_list() == expected


def test_targets(tmp_path: Path) -> None:
    path = write(LOG.with_columns(sampled=pl.Series([1, 0, 1])), tmp_path / "log.csv")
    log = read_log(path, **COLUMNS, target="sampled")
    assert log.columns == ["user_id", "item_id", "cate_id", "time", "target"] and log["target"].to_list() == [1, 0, 1]
    path = write(LOG.with_columns(sampled=pl.Series([1, 2, 1])), path)
    with pytest.raises(UserError, match="column 'sampled' has the value '2'; a target must be 0 or 1"):
        read_log(path, **COLUMNS, target="sampled")


@pytest.mark.parametrize("value", ["2", "yes", None, "0.5"])
def test_values_that_are_no_labels(value: str | None, tmp_path: Path) -> None:
    path = write(LOG.with_columns(clicked=pl.Series(["0", value, "1"])), tmp_path / "log.parquet")
    with pytest.raises(UserError, match=rf"column 'clicked' has the value {value!r}; a label must be 0 or 1"):
        read_log(path, **COLUMNS, label="clicked")


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_exact_duplicates(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Compare rows in all columns that are read, before rounding and filling."""
    caplog.set_level(logging.INFO)
    user = LOG[:1]
    other = [
        user.with_columns(brand=pl.lit("y")),
        user.with_columns(price=pl.lit(2.5)),
        user.with_columns(ts=NOON + 61),
    ]
    broken = user.with_columns(iid=pl.lit(None, pl.Int64))
    path = write(pl.concat([LOG, user, *other, broken, user, broken], how="vertical_relaxed"), tmp_path / name)
    options = {**COLUMNS, "side": ("brand",), "skip_bad_lines": True}
    dropped = read_log(path, **options)
    distinct = pl.concat([LOG, other[0], other[2]], how="vertical_relaxed")
    assert dropped.equals(read_log(write(distinct, tmp_path / f"distinct_{name}"), **options))
    assert "Dropped 3 rows that repeat an earlier row in all columns read" in caplog.text
    assert read_log(path, **options, duplicates="drop").equals(dropped)
    kept = read_log(path, **options, duplicates="keep")
    assert kept.height == 8 and kept.unique(maintain_order=True).equals(dropped)
    assert "Kept 3 rows that repeat an earlier row" in caplog.text
    moments = pl.Series([NOON * 1000, NOON * 1000 + 1, NOON * 1000])
    assert read_log(write(pl.concat([user] * 3).with_columns(ts=moments), tmp_path / name), **COLUMNS).height == 2


@pytest.mark.parametrize(
    "side",
    [
        ("label",),
        ("tie",),
        ("item",),
        ("item_history",),
        ("neg_item",),
        ("brand", "brand"),
        ("event_time",),
        ("brand_history",),
    ],
)
def test_taken_names_of_side_columns_are_refused(side: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"side column '{side[0]}': the name is taken"):
        read_log(tmp_path / "log.csv", **COLUMNS, side=side)


def test_requests_need_labels(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="request needs label"):
        read_log(tmp_path / "log.csv", **COLUMNS, request="req")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.csv", b"", "log.csv cannot be read: empty CSV"),
        ("log.csv", b"uid,iid,cid,ts\n", "log.csv has no rows"),
        ("log.csv", b"uid,iid,ts\nu,i,1\n", "log.csv has no column 'cid'; it has uid, iid, ts"),
        ("log.csv", b"uid,iid,cid,ts\nu,i,c\n", "line 2 has 3 fields where the header has 4; a value"),
        ("log.csv", b'uid,iid,cid,ts\nu,i,"c\n', "line 2 begins a row with a quote that is never closed"),
        ("log.parquet", b"uid,iid,cid,ts\nu,i,c,1\n", "log.parquet cannot be read: "),
        (
            "log.csv.gz",
            gzip.compress(b"uid,iid,cid,ts\n" + b"u,i,c,1\n" * 500, mtime=0)[:-10],
            "log.csv.gz cannot be read: ",
        ),
    ],
)
def test_files_that_cannot_be_read(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_log(tmp_path / name, **COLUMNS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("broken", [b"u3,a name, its rest,c,3,", b"u3,i,c", b"u3"])
def test_rows_of_a_wrong_number_of_fields(broken: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(
        b"\n".join([b"uid,iid,cid,ts,note", b'u1,i,"c\n",1704110400,', broken, b"", b'u2,i,c,1704110401,"a, b"', b""])
    )
    with pytest.raises(UserError) as caught:
        read_log(path, **COLUMNS)
    assert f"{path}: line 4 has {broken.count(b',') + 1} fields where the header has 5; " in str(caught.value)
    assert str(caught.value).endswith("; --skip-bad-lines leaves such rows out")
    assert read_log(path, **COLUMNS, skip_bad_lines=True)["user_id"].to_list() == ["u1", "u2"]
    assert "left out 1 rows with a wrong number of fields" in caplog.text


def test_a_truncated_parquet_file_and_a_missing_one(tmp_path: Path) -> None:
    path = write(LOG, tmp_path / "log.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"log\.parquet cannot be read: parquet: "):
        read_log(path, **COLUMNS)
    with pytest.raises(UserError, match=r"raw file .*gone\.csv does not exist"):
        read_log(tmp_path / "gone.csv", **COLUMNS)


@pytest.mark.parametrize("column", ["uid", "cid", "ts", "brand"])
def test_list_column_is_named_with_a_remedy(column: str, tmp_path: Path) -> None:
    path = write(LOG.with_columns(pl.Series(column, [["a"], ["b", "c"], []])), tmp_path / "log.parquet")
    with pytest.raises(UserError) as caught:
        read_log(path, **COLUMNS, side=("brand",))
    start = f"{path}: column '{column}' is of type List(String); a column must have one value per row. Join several"
    assert str(caught.value).startswith(start)
    assert str(caught.value).endswith('docs/guides/data.md, "Multi-valued columns"')


def test_list_column_that_is_not_read_is_allowed(tmp_path: Path) -> None:
    path = write(LOG.with_columns(tags=pl.Series([["a"], ["b", "c"], []])), tmp_path / "log.parquet")
    assert read_log(path, **COLUMNS).height == 3
