"""CSV files whose rows have as many fields as the header.

pyarrow reads them and leaves odd rows out. The `csv` module first finds what pyarrow does not tell: the line of an odd
row, and a quote that is never closed or encloses no whole value, of which pyarrow would make one value with all that
follows.
"""

import csv
import io
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
from polars.io.plugins import register_io_source

from .errors import UserError

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file -> what compressed it."""
BLOCK_BYTES = 1 << 24

csv.field_size_limit(2**31 - 1)  # a history is one field


def scan_csv(
    path: str | Path, separator: str = ",", n_rows: int | None = None, skip_bad_lines: bool = False, hint: str = ""
) -> pl.LazyFrame:
    """Return the rows of a file as text, with as many fields as its header.

    The file may be compressed. Empty lines are left out; in a file of one column they are missing values.

    Args:
        path: file with a header line; a value that contains the separator or a line break, or begins with a quote, is
            in double quotes, and quotes in it are doubled.
        separator: one byte.
        n_rows: largest number of rows to read.
        skip_bad_lines: skip rows with another number of fields, with a warning that counts them.
        hint: end of the error's line.

    Raises:
        UserError: a row has another number of fields, a quote does not enclose a whole value or is never closed (the
            message gives the line), or the header has a name twice.
        OSError: the file cannot be read.
    """
    rows = _rows(path, separator)
    before, header = next(rows, (1, []))
    if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
        raise UserError(f"{path}: the header has the column {twice[0]!r} twice; rename or remove one of them")
    if not header:
        raise pl.exceptions.NoDataError("empty CSV")
    read, odd = 0, []
    for line, row in islice(rows, n_rows):
        read += 1
        if len(row) != len(header):
            odd.append((line, len(row)))
    if odd:
        first = f"line {odd[0][0]} has {odd[0][1]} fields where the header has {len(header)}"
        if not skip_bad_lines:
            others = f", {len(odd)} such rows" if len(odd) > 1 else ""
            raise UserError(f"{path}: {first}{others}; a value that holds {separator!r} must be in double quotes{hint}")
        logging.warning(f"{path}: left out {len(odd)} rows with a wrong number of fields ({first})")
    names = [name or f"column_{place}" for place, name in enumerate(header, 1)]
    schema = pl.Schema(dict.fromkeys(names, pl.String))
    if read == len(odd):
        return pl.LazyFrame(schema=schema)
    parse = pa_csv.ParseOptions(
        delimiter=separator,
        newlines_in_values=True,
        ignore_empty_lines=len(header) > 1,
        invalid_row_handler=lambda _: "skip",
    )
    blocks = pa_csv.ReadOptions(block_size=BLOCK_BYTES, skip_rows=before - 1)

    def batches(
        columns: list[str] | None, predicate: pl.Expr | None, wanted: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        own = columns if columns and set(columns) <= set(header) else names  # pyarrow has no names for blank columns
        convert = pa_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            include_columns=own if own is columns else None,
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        )
        left = min(read - len(odd), read if wanted is None else wanted)
        with _opened(path) as stream:
            for batch in pa_csv.open_csv(stream, blocks, parse, convert):
                frame = pl.DataFrame(pl.from_arrow(batch.rename_columns(own))).select(columns or names).head(left)
                left -= frame.height
                yield frame if predicate is None else frame.filter(predicate)
                if not left:
                    break

    return register_io_source(batches, schema=schema)


def line_of(path: str | Path, separator: str, row: int) -> int:
    """Return the line of the file, from 1, on which a row of `scan_csv` begins.

    Args:
        path: the file.
        separator: one byte.
        row: number of the row, from 0; all rows have as many fields as the header.
    """
    return next(islice(_rows(path, separator), row + 1, None))[0]


def count_lines(path: str | Path, enough: int) -> int:
    """Return the number of lines of a file, which may be compressed.

    Counting stops at `enough` lines.

    Raises:
        OSError: the file cannot be read.
    """
    lines, rest = 0, b""
    with _opened(path) as stream:
        while lines < enough and (block := stream.read(BLOCK_BYTES)):
            lines, rest = lines + block.count(b"\n"), block
    return lines + bool(rest and not rest.endswith(b"\n") and lines < enough)


def _rows(path: str | Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the header and the non-empty rows, each with the line where it begins."""
    with _opened(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        rows = csv.reader(text, delimiter=separator, strict=True)
        width, line = 0, 1
        try:
            for row in rows:
                if row or width == 1:
                    width = width or len(row)
                    yield line, row or [""]
                line = rows.line_num + 1
        except csv.Error as error:
            open_end = "end of data" in str(error)
            what = "is never closed" if open_end else "does not enclose a whole value"
            raise UserError(
                f"{path}: line {line} begins a row with a quote that {what}; a value with quotes must be in double "
                "quotes, with its own quotes doubled"
            ) from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: line {line} or one of the next has bytes that are not UTF-8") from error


def _opened(path: str | Path) -> pa.NativeFile:
    """Open a file to read its bytes, decompressed."""
    with open(path, "rb") as file:
        start = file.read(4)
    compression = next((name for first, name in COMPRESSIONS.items() if start.startswith(first)), None)
    return pa.input_stream(str(path), compression=compression)
