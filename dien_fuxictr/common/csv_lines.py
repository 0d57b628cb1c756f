"""CSV files whose rows have as many fields as the header.

polars fills a row that is too short with nulls and reads the first fields of one that is too long: an unquoted comma
shifts the columns, and a file that was cut passes for a whole one. A quote inside a value can hide whole rows.
"""

import csv
import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from .errors import UserError

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
"""First bytes of a compressed file -> what compressed it."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
BLOCK_BYTES = 1 << 24
QUOTE, NEWLINE, RETURN = b'"\n\r'
_ROW = "number of the row"


@dataclass(frozen=True)
class OddRows:
    """The rows of a CSV file that are not as its header, by their numbers: the first after the header has 0.

    Attributes:
        header: how many fields the header has.
        blank: (B,) rows that are empty lines; none in a file of one column, where such a line is a value.
        uneven: (U,) other rows that have more or fewer fields than the header.
        line: (U,) the line of the file, from 1, on which each uneven row begins.
        fields: (U,) how many it has.
    """

    header: int
    blank: np.ndarray
    uneven: np.ndarray
    line: np.ndarray
    fields: np.ndarray


def scan_csv(
    path: str | Path,
    separator: str = ",",
    n_rows: int | None = None,
    skip_bad_lines: bool = False,
    hint: str = "",
    **options: Any,
) -> pl.LazyFrame:
    """`pl.scan_csv` of a file, plain or compressed, all of whose rows have as many fields as its header.

    Empty lines are left out.

    Args:
        path: has a header line; a value that holds the separator, a line break or a quote is in double quotes.
        separator: one byte.
        n_rows: look at so many rows only.
        skip_bad_lines: leave rows of another number of fields out, with a warning that counts them.
        hint: what the error's line ends with.
        options: further ones of `pl.scan_csv`.

    Raises:
        UserError: a row has another number of fields, or a quote hides what follows it as it stands inside a value or
            is never closed (names the line); the header has a name twice, or lines end in CR alone.
        OSError: the file cannot be read.
    """
    _check_header(path, separator)
    odd = odd_rows(path, separator, n_rows)
    if len(odd.uneven):
        first = f"line {odd.line[0]} has {odd.fields[0]} fields where the header has {odd.header}"
        if not skip_bad_lines:
            rows = f", {len(odd.uneven)} such rows" if len(odd.uneven) > 1 else ""
            raise UserError(f"{path}: {first}{rows}; a value that holds {separator!r} must be in double quotes{hint}")
        logging.warning(f"{path}: left out {len(odd.uneven)} rows of a wrong number of fields ({first})")
    options |= {"separator": separator, "n_rows": n_rows}
    dropped = np.concatenate([odd.blank, odd.uneven])
    if not len(dropped):
        return pl.scan_csv(path, **options)
    rows = pl.scan_csv(path, truncate_ragged_lines=True, row_index_name=_ROW, **options)
    return rows.filter(~pl.col(_ROW).is_in(dropped.tolist())).drop(_ROW)


def _check_header(path: str | Path, separator: str) -> None:
    """Refuse what polars would rename or take for one line."""
    with _opened(path) as stream:
        head = stream.read(BLOCK_BYTES).removeprefix(BYTE_ORDER_MARK).lstrip(b"\r\n")
    line = head.partition(b"\n")[0].removesuffix(b"\r")
    if b"\r" in line and b'"' not in line:
        raise UserError(f"{path}: its lines end in CR alone; convert them to LF, for example by tr '\\r' '\\n'")
    with suppress(csv.Error):
        names = next(csv.reader([line.decode(errors="replace")], delimiter=separator), [])
        if twice := [name for place, name in enumerate(names) if name and name in names[:place]]:
            raise UserError(f"{path}: the header has the column {twice[0]!r} twice; rename or remove one of them")


def count_lines(path: str | Path, enough: int) -> int:
    """The lines of a file, plain or compressed; at least `enough` where it has more, and is then not read to its end.

    Raises:
        OSError: the file cannot be read.
    """
    lines = 0
    for block in _blocks(path):
        lines += np.count_nonzero(block == NEWLINE)
        if lines >= enough:
            break
    return lines


def odd_rows(path: str | Path, separator: str = ",", n_rows: int | None = None) -> OddRows:
    """Count the fields of each row in one pass over the file's bytes; arguments and errors are those of `scan_csv`."""
    header, row, limit = 0, 0, sys.maxsize if n_rows is None else n_rows
    columns: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in range(4)]
    blank, uneven, lines, counts = columns
    for header, *parts in _rows_below_header(path, separator):
        fields, line, is_blank = (part[: limit - row] for part in parts)
        odd = np.flatnonzero((fields != header) & ~is_blank)
        blank.append(row + np.flatnonzero(is_blank))
        uneven.append(row + odd)
        lines.append(line[odd])
        counts.append(fields[odd])
        row += len(fields)
        if row >= limit:
            break
    return OddRows(header, *(np.concatenate(parts) for parts in columns))


def line_of(path: str | Path, separator: str, row: int) -> int:
    """Return the line of the file, from 1, on which a row of `scan_csv` begins.

    Args:
        row: its number, from 0; empty lines have none. All rows have as many fields as the header.
    """
    for _, _, line, is_blank in _rows_below_header(path, separator):
        kept = line[~is_blank]
        if row < len(kept):
            return int(kept[row])
        row -= len(kept)
    raise IndexError(f"{path} has too few rows")


def _rows_below_header(path: str | Path, separator: str) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """As `_rows`, with the number of the header's fields; in a file of one column no row counts as blank."""
    header = 0
    for fields, line, is_blank in _rows(path, ord(separator)):
        begin = 0
        if not header:
            begin = int(np.append(~is_blank, True).argmax()) + 1
            if begin > len(fields):
                continue
            header = int(fields[begin - 1])
        yield header, fields[begin:], line[begin:], is_blank[begin:] & (header > 1)


def _rows(path: str | Path, separator: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of the rows that end in each block: number of fields, line on which the row begins, whether it is blank."""
    quoted = False  # whether the block before ends within quotes
    line, broken = 1, 0  # where the unfinished row begins; line breaks in earlier blocks
    begin, separators = 0, 0  # of the unfinished row: its first byte, counted from the block's, and those so far
    for data in _blocks(path):
        newline = data == NEWLINE
        mark = (data == separator) | newline
        within = np.bitwise_xor.accumulate(data == QUOTE) ^ quoted if quoted or QUOTE in data else None
        place = np.flatnonzero(mark if within is None else mark & ~within)
        of_end = np.flatnonzero(newline[place])
        end = place[of_end]
        starts = np.append(begin, end + 1)
        lines = np.append(line, broken + 1 + np.searchsorted(np.flatnonzero(newline), end, side="right"))
        if within is not None:
            hidden = _hidden(data, within, np.flatnonzero(mark & within), separator, quoted)
            if len(hidden):
                raise UserError(
                    f"{path}: line {lines[np.searchsorted(end, hidden[0])]} begins a row with a quote that encloses no "
                    "whole value and hides what follows; values with quotes must be in double quotes, theirs doubled"
                )
            quoted = bool(within[-1])
        fields = np.diff(of_end, prepend=-1 - separators)
        blank = fields == 1
        single = np.flatnonzero(blank)
        size = end[single] - starts[single]
        blank[single] = (size == 0) | ((size == 1) & (data[end[single] - 1] == RETURN))
        yield fields, lines[:-1], blank
        line, begin = int(lines[-1]), int(starts[-1]) - len(data)
        separators = len(place) - 1 - of_end[-1] if len(end) else separators + len(place)
        broken += np.count_nonzero(newline)
    if quoted:
        raise UserError(f"{path}: line {line} begins a row with a quote that is never closed")


def _hidden(data: np.ndarray, within: np.ndarray, marks: np.ndarray, separator: int, quoted: bool) -> np.ndarray:
    """Separators and line breaks between quotes of which the first does not begin a value or the second not end one.

    Args:
        data: a block, and `within`, whether each byte is in quotes, with the opening one and without the closing one.
        marks: places of the separators and line breaks in quotes.
        quoted: whether the block begins in quotes; what is before it is hidden too.

    Returns:
        Places in ascending order.
    """
    quote = np.flatnonzero(data == QUOTE)
    opening, closing = quote[within[quote]], quote[~within[quote]]
    border = (separator, NEWLINE, QUOTE)  # a quote in quotes is doubled: the second opens again
    begins_amiss = np.append(False, ~np.isin(data[opening - 1], border))
    ends_amiss = np.append(np.zeros(int(not quoted), bool), ~np.isin(data[closing + 1], (*border, RETURN)))
    amiss = begins_amiss | np.append(ends_amiss, False)[: len(begins_amiss)]
    value = np.append(0, np.cumsum(data[opening - 1] != QUOTE))
    amiss = np.bincount(value, weights=amiss)[value] > 0
    hidden = marks[amiss[np.searchsorted(opening, marks)]]
    return np.append(0, hidden) if quoted and amiss[0] else hidden


def _blocks(path: str | Path) -> Iterator[np.ndarray]:
    """The bytes of the file, decompressed, in blocks of whole lines."""
    rest, mark = b"", BYTE_ORDER_MARK
    with _opened(path) as stream:
        while block := stream.read(BLOCK_BYTES):
            lines, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield np.frombuffer((lines + newline).removeprefix(mark), np.uint8)
                mark = b""
    if rest := rest.removeprefix(mark):
        yield np.frombuffer(rest + b"\n", np.uint8)


def _opened(path: str | Path) -> pa.NativeFile:
    """The file's bytes, decompressed."""
    with open(path, "rb") as file:
        start = file.read(4)
    compression = next((name for first, name in COMPRESSIONS.items() if start.startswith(first)), None)
    return pa.input_stream(str(path), compression=compression)
