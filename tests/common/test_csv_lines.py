"""Rows of CSV files that have more or fewer fields than the header."""

import csv
import gzip
import io
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dien_fuxictr.common import csv_lines
from dien_fuxictr.common.csv_lines import line_of, scan_csv
from dien_fuxictr.common.errors import UserError


def write(path: Path, content: bytes) -> Path:
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(content)
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def rows_of(path: Path, **options) -> list[tuple]:
    return scan_csv(path, **options).collect().rows()


@pytest.mark.parametrize("block", [8, 1 << 24])
def test_the_line_of_a_row(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_lines, "BLOCK_BYTES", block)
    path = write(tmp_path / "rows.csv", b'\na,b\n1,2\n\n"3\n\n3",4\n5,6\n')
    assert rows_of(path) == [("1", "2"), ("3\n\n3", "4"), ("5", "6")]
    assert [line_of(path, ",", row) for row in range(3)] == [3, 5, 8]
    single = write(tmp_path / "single.csv", b"a\n1\n\n3\n")
    assert [line_of(single, ",", row) for row in range(3)] == [2, 3, 4]


@pytest.mark.parametrize("columns", [["a"], ["c"], ["a", "b", "c"]])
@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.csv.zst"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\n"])
def test_uneven_rows_are_an_error_or_left_out(
    columns: list[str], name: str, newline: bytes, bom: bytes, end: bytes, tmp_path: Path, caplog
) -> None:
    lines = [b"a,b,c", b"1,2,3", b'"4,\n\n""4""",5,6', b"7,8,9,10", b'"11\n",12', b"", b"13,14,15", b"16"]
    path = write(tmp_path / name, bom + (b"\n".join(lines) + end).replace(b"\n", newline))
    with pytest.raises(UserError) as caught:
        scan_csv(path, hint="; HINT")
    assert str(caught.value) == (
        f"{path}: line 6 has 4 fields where the header has 3, 3 such rows; a value that holds ',' must be in double "
        "quotes; HINT"
    )
    whole = [("1", "2", "3"), ('4,\n\n"4"', "5", "6"), ("13", "14", "15")]
    left = scan_csv(path, skip_bad_lines=True).select(columns).collect()
    assert [value.replace("\r", "") for value in left[columns[0]]] == [row["abc".index(columns[0])] for row in whole]
    assert left.columns == columns
    assert f"{path}: left out 3 rows with a wrong number of fields (line 6 has 4 fields where" in caplog.text


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_empty_lines_are_no_rows(newline: bytes, tmp_path: Path, caplog) -> None:
    content = b"\n\na,b\n1,2\n\n3,4\n\n\n".replace(b"\n", newline)
    assert rows_of(write(tmp_path / "rows.csv", content)) == [("1", "2"), ("3", "4")]
    one_column = b"a\n1\n\n3\n".replace(b"\n", newline)
    assert rows_of(write(tmp_path / "column.csv", one_column)) == [("1",), (None,), ("3",)]
    assert not caplog.records


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", b"a,b\n1,2\n3")
    with pytest.raises(UserError, match="line 3 has 1 fields where the header has 2; a value"):
        scan_csv(path)
    path = write(tmp_path / "quoted.csv", b'a,b\n1,2\n3,"4\n5,6\n')
    for skip_bad_lines in (False, True):  # the end of the quote is unknown: skipping would drop the rest
        with pytest.raises(UserError, match="line 3 begins a row with a quote that is never closed"):
            scan_csv(path, skip_bad_lines=skip_bad_lines)
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:-10])
    with pytest.raises(OSError):
        scan_csv(path.with_suffix(".csv.gz"))


@pytest.mark.parametrize("rows", [b'i1,"x\ni2,"y', b'i1,"x\n\n"y', b'"x,"y,i1', b'i1,"x" y', b'"i1"2,"x""'])
def test_quotes_around_part_of_a_value_are_refused(rows: bytes, tmp_path: Path) -> None:
    """Raise an error where pyarrow would silently read several rows as one value."""
    path = write(tmp_path / "rows.csv", b'a,b\n"i,0",5"" and 6" x"\n\n' + rows + b"\ni3,z\n")
    for skip_bad_lines in (False, True):  # the end of the quote is unknown
        with pytest.raises(UserError, match="line 4 begins a row with a quote that does not enclose a whole value;"):
            scan_csv(path, skip_bad_lines=skip_bad_lines)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (b'i1,5" x\ni2,6" x', [("i1", '5" x'), ("i2", '6" x')]),
        (b'i1,5" x\ni2,6"', [("i1", '5" x'), ("i2", '6"')]),
        (b'i1, "x"\n', [("i1", ' "x"')]),
    ],
)
def test_quotes_inside_a_value_are_part_of_it(rows: bytes, found: list[tuple], tmp_path: Path) -> None:
    """Inches in two rows: polars would make one row of them, without a word."""
    path = write(tmp_path / "rows.csv", b"a,b\n" + rows + b"\ni3,z\n")
    assert rows_of(path) == [*found, ("i3", "z")]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        (b'i1,5", x"', "line 4 has 3 fields where the header has 2"),
        (b'i1, "x""\n\ny"', "line 6 has 1 fields where the header has 2"),
    ],
)
def test_quotes_inside_a_value_do_not_hide_odd_rows(rows: bytes, line: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", b'a,b\n"i,0",5"" and 6" x"\n\n' + rows + b"\ni3,z\n")
    with pytest.raises(UserError, match=line):
        scan_csv(path)
    assert rows_of(path, skip_bad_lines=True)[-1] == ("i3", "z")


def test_quotes_that_hide_nothing(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"a",b\n"i,0",5" and 6" x\n"i""\n1",""\n'
    assert rows_of(write(tmp_path / "rows.csv", content)) == [("i,0", '5" and 6" x'), ('i"\n1', "")]


def test_only_the_rows_that_are_read_count(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", b"a\tb\n1\t2\n\n3\t4\n5\n")
    assert rows_of(path, separator="\t", n_rows=2) == [("1", "2"), ("3", "4")]
    with pytest.raises(UserError, match=r"line 5 has 1 fields where the header has 2; a value that holds '.t' must"):
        scan_csv(path, separator="\t", n_rows=3)


def test_nothing_to_count(tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / "header.csv", b"a,b")) == []
    for content in (b"", b"\n\r\n", b"\xef\xbb\xbf"):
        with pytest.raises(pl.exceptions.NoDataError):
            scan_csv(write(tmp_path / "empty.csv", content))


FIELD = st.text(st.sampled_from('x,"\n '), max_size=4)
RECORD = st.lists(FIELD, min_size=1, max_size=4).filter(lambda record: record != [""])


@given(
    records=st.lists(RECORD, min_size=1, max_size=8), block=st.integers(100, 200), end=st.sampled_from(["\n", "\r\n"])
)
def test_against_the_csv_module(records: list[list[str]], block: int, end: str, tmp_path_factory) -> None:
    """Whatever the fields hold and wherever a block ends."""
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(records)
    path = write(tmp_path_factory.mktemp("made") / "rows.csv", text.getvalue().encode())
    same = [record for record in records[1:] if len(record) == len(records[0])]
    rows = [number for number, record in enumerate(records) if number and record in same]
    if any(records[0].count(name) > 1 for name in records[0] if name):
        with pytest.raises(UserError, match="twice"):
            scan_csv(path, skip_bad_lines=True)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_lines, "BLOCK_BYTES", block)
        found = rows_of(path, skip_bad_lines=True)
    plain = [tuple(value or "" for value in row) for row in found]
    assert plain == [tuple(record) for record in same]
    if len(rows) == len(records) - 1:
        before = [sum(field.count("\n") for record in records[:row] for field in record) for row in rows]
        found_lines = [line_of(path, ",", number) for number in range(len(rows))]
        assert found_lines == [row + 1 + breaks for row, breaks in zip(rows, before, strict=True)]


def test_a_large_file_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pl.DataFrame({"a": range(10_000), "b": ["x,y"] * 10_000})
    path = tmp_path / "rows.csv"
    frame.write_csv(path)
    monkeypatch.setattr(csv_lines, "BLOCK_BYTES", 999)
    assert scan_csv(path).with_columns(pl.col("a").cast(pl.Int64)).collect().equals(frame)


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "rows.csv.zst"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\r\r"])
def test_lines_that_end_in_cr_alone(name: str, start: bytes, tmp_path: Path) -> None:
    assert rows_of(write(tmp_path / name, start + b"a,b\r1,2\r3,4\r")) == [("1", "2"), ("3", "4")]


def test_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.csv: line 1 or one of the next has bytes that are not UTF-8"):
        scan_csv(write(tmp_path / "rows.csv", b"a,b\n1,\xff\n"))


@pytest.mark.parametrize(
    ("header", "name"), [(b"a,b,a", "a"), (b'a,"a",b', "a"), (b"b,a,c,b,a", "b"), (b"\n\r\na,b,a", "a")]
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_header_with_a_name_twice(header: bytes, name: str, newline: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.csv", header + newline + b"1,2,3" + newline)
    with pytest.raises(UserError) as error:
        scan_csv(path)
    line = f"{path}: the header has the column {name!r} twice; rename or remove one of them"
    assert str(error.value) == line


@pytest.mark.parametrize("content", [b"a,b,A\n1,2,3\n", b'"a\rb",c\r\n1,2\r\n', b"a,,\n1,,\n", b'"x,y",x,y\n1,2,3\n'])
def test_complete_headers_are_accepted(content: bytes, tmp_path: Path) -> None:
    assert scan_csv(write(tmp_path / "rows.csv", content)).collect().height == 1
