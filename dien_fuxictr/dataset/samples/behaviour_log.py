"""Read any log of behaviours into the columns that the builders use."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN
from .raw_table import SKIP_HINT, RawTable, read_items
from .times import Times, read_times

RESERVED = re.compile(
    r"label|target|(neg_)?(user|item|cate)(_id)?|session|day|time|request|tie|event_(time|tie)|sample|"
    r"history_(start|length)|.*_history|neg_.*|(rows|negative)_(train|valid|test|left_out)"
)
"""Names that the samples or their making use."""
NEEDED = "every row must have a user, an item and a time"


class BrokenRows:
    """Counter of the broken rows of a log, which may refuse them.

    Attributes:
        path: path of the log, for messages.
    """

    def __init__(self, path: Path, skip: bool) -> None:
        self.path, self._skip = path, skip
        self._read = self._count = 0
        self._first = ""

    def add(self, bad: pl.Series, reason: Callable[[int], str]) -> None:
        """Count the broken ones among the next rows.

        Args:
            bad: (N,) whether each row is broken.
            reason: returns what is wrong with a row of these, counted from 0.

        Raises:
            UserError: a row is broken and such rows are not skipped.
        """
        if bad.any() and not self._count:
            row = int(bad.to_numpy().argmax())
            self._first = f"row {self._read + row + 1}{reason(row)}"
        self._read += bad.len()
        self._count += int(bad.sum())
        if self._count and not self._skip:
            raise UserError(
                f"{self.path}: {self._first}; broken rows: {self._count:,} of {self._read:,} read{SKIP_HINT}"
            )

    def report(self) -> None:
        """Log a warning about the skipped rows, if any."""
        if self._count:
            logging.warning(f"{self.path}: left out {self._count} broken rows ({self._first})")


def read_log(
    path: Path,
    user: str,
    item: str,
    category: str | None,
    time: str,
    label: str | None = None,
    request: str | None = None,
    target: str | None = None,
    side: tuple[str, ...] = (),
    context: tuple[str, ...] = (),
    items: Path | None = None,
    time_unit: str | None = None,
    time_format: str | None = None,
    duplicates: str = "drop",
    skip_bad_lines: bool = False,
) -> pl.DataFrame:
    """Read a log with one behaviour or one exposure per row.

    Args:
        path: a .csv (or .csv.gz, with a header line), .parquet, or RecBole .inter file; or several, see `parts_of`,
            whose rows are concatenated.
        user: name of the user's column.
        item: name of the item's column.
        category: name of the category's column; None if the log has no categories.
        time: name of the time's column.
        label: column that is 1 or true for a click and 0 or false for an exposure without one; without it every row is
            a behaviour.
        request: column that is equal for the exposures that were shown together.
        target: column that is 1 or true for rows that become samples; without it all do.
        side: columns of further properties of the item; they keep their names.
        context: columns of further properties of the user or request; they keep their names.
        items: file with one row per item, which has the item's column and the category and side columns that the log
            lacks.
        time_unit: unit of numeric times, see `read_times`; without a unit they must be from 1990 to 2100.
        time_format: format of times as text, see `read_times`.
        duplicates: "drop" leaves out rows that equal an earlier one in all of these columns.
        skip_bad_lines: skip rows without user, item, request or readable time, and rows with more or fewer fields than
            the header, instead of stopping at the first.

    Returns:
        In the order of the files: user_id, item_id (String), time (Int64, seconds), the side and context columns
        (String) and, if named, cate_id (String), label, target (Int8) and request (String). A missing category, side or
        context value is "unknown".

    Raises:
        UserError: the file or a column is missing, the file cannot be read or has no rows, a row has more or fewer
            fields than the header, a name is taken, or a value is not a time or label.
    """
    columns = _columns(path, user, item, category, time, label, request, target, side, context)
    table = RawTable.scan(path, skip_bad_lines)
    known, own = _known_items(table, columns, items, context, skip_bad_lines)
    raw = _joined(table.take(own), known, columns)
    if known is not None:
        ids = raw["item_id"].unique()
        logging.info(
            f"{ids.is_in(known['item_id'].implode()).sum()} of {ids.len()} items are in {items}", extra={"note": True}
        )
    broken = BrokenRows(path, skip_bad_lines)
    log, kept, times = _checked(raw, columns, time_unit, time_format, broken)
    broken.report()
    repeated = kept & ~raw.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    if repeated.any():
        treated = "Dropped" if duplicates == "drop" else "Kept"
        logging.info(
            f"{treated} {repeated.sum()} rows that repeat an earlier row in all columns read", extra={"note": True}
        )
    log = log.filter(kept & ~repeated if duplicates == "drop" else kept)
    if log.is_empty():
        raise UserError(f"{path} has no rows")
    _say_what_was_read(path, time, times, log.height, log["time"].min(), log["time"].max())
    return _with_flags(log, path, label, target)


def read_log_in_batches(
    path: Path,
    user: str,
    item: str,
    category: str | None,
    time: str,
    label: str | None = None,
    request: str | None = None,
    target: str | None = None,
    side: tuple[str, ...] = (),
    context: tuple[str, ...] = (),
    items: Path | None = None,
    time_unit: str | None = None,
    time_format: str | None = None,
    skip_bad_lines: bool = False,
    *,
    rows: int,
) -> Callable[[], Iterator[tuple[pl.DataFrame, pl.Series]]]:
    """Return a reader of a log like `read_log`, about `rows` rows at a time.

    Rows that equal an earlier one are included. The reader can be called again; only the first call logs what was read.

    Returns:
        A function that yields the rows, and a number per row, which is equal for equal rows. It raises UserError as
        `read_log`; or if times of a batch seem to be in another unit or form than those of the first.

    Raises:
        UserError: as `read_log`, if the files or their columns are wrong.
    """
    columns = _columns(path, user, item, category, time, label, request, target, side, context)
    table = RawTable.scan(path, skip_bad_lines)
    known, own = _known_items(table, columns, items, context, skip_bad_lines)
    is_first_call = True

    def batches() -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        nonlocal is_first_call
        first: Times | None = None
        broken = BrokenRows(path, skip_bad_lines)
        total, moments = 0, []
        for batch in table.batches(own, rows):
            raw = _joined(batch, known, columns)
            log, kept, times = _checked(raw, columns, time_unit, time_format, broken)
            first = first or times
            if times.read_as != first.read_as:
                raise UserError(
                    f"{path}: column {time!r} holds {first.read_as} at first, then {times.read_as}; set --time-unit "
                    "or --time-format"
                )
            log = log.filter(kept)
            if log.height:
                total += log.height
                moments += [log["time"].min(), log["time"].max()]
                yield _with_flags(log, path, label, target), raw.filter(kept).hash_rows()
        if first is None or not total:
            raise UserError(f"{path} has no rows")
        if is_first_call:
            broken.report()
            _say_what_was_read(path, time, first, total, min(moments), max(moments))
        is_first_call = False

    return batches


def _with_flags(log: pl.DataFrame, path: Path, label: str | None, target: str | None) -> pl.DataFrame:
    flags = {"label": label, "target": target}
    return log.with_columns(clicks(log[ours], path, name, ours) for ours, name in flags.items() if name)


def _say_what_was_read(path: Path, time: str, times: Times, rows: int, first: Any, last: Any) -> None:
    begin, end = (np.datetime64(moment, "s") for moment in (first, last))
    what = f"{path}; {time} as {times.read_as}, from {begin} to {end}"
    logging.info(f"Read {rows} rows from {what}", extra={"screen": f"    {rows:,} rows in {what}"})


def _columns(
    path: Path,
    user: str,
    item: str,
    category: str | None,
    time: str,
    label: str | None,
    request: str | None,
    target: str | None,
    side: tuple[str, ...],
    context: tuple[str, ...],
) -> dict[str, str]:
    """Return the builders' names of the columns -> the log's names."""
    columns = {"user_id": user, "item_id": item} | ({"cate_id": category} if category else {}) | {"time": time}
    columns |= {"label": label} if label else {}
    columns |= {"request": request} if request else {}
    columns |= {"target": target} if target else {}
    further = (*side, *context)
    for name in further:
        if RESERVED.fullmatch(name) or further.count(name) > 1:
            kind = "side" if name in side else "context"
            raise UserError(f"{kind} column {name!r}: the name is taken; rename the column in {path}")
    if request and not label:
        raise UserError("request needs label: only a log that has exposures without a click has requests")
    return columns | {name: name for name in further}


def _checked(
    raw: pl.DataFrame, columns: dict[str, str], time_unit: str | None, time_format: str | None, broken: BrokenRows
) -> tuple[pl.DataFrame, pl.Series, Times]:
    """Return rows in the builders' form, whether each is usable, and their times."""
    time, flags = columns["time"], ("time", "label", "target")
    try:
        times = read_times(raw["time"], time_unit, time_format)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{broken.path}: column {time!r} holds no times: {str(error).splitlines()[0]}") from error
    ids = [name for name in ("user_id", "item_id", "request") if name in columns]
    log = raw.with_columns(
        *[pl.col(name).fill_null("") for name in ids],
        *[pl.col(name).replace("", None).fill_null(UNKNOWN) for name in columns if name not in (*ids, *flags)],
        times.seconds.alias("time"),
    )

    lacking = log.select(pl.any_horizontal(pl.col(ids) == "", pl.col("time").is_null())).to_series()
    outside = times.outside() & (time_unit is None)

    def reason(row: int) -> str:
        if not lacking[row]:
            return f": {time} {times.of_year(row)}"
        name = next((name for name in ids if log[name][row] == ""), "time")
        why = f": {times.wanted}" if name == "time" and isinstance(raw[name][row], str) else f": {NEEDED}"
        return f" has no usable {columns[name]} ({raw[name][row]!r}){why}"

    broken.add(lacking | outside, reason)
    return log, ~(lacking | outside), times


def _known_items(
    table: RawTable, columns: dict[str, str], items: Path | None, context: tuple[str, ...], skip_bad_lines: bool
) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """Return the properties from the file of items, and the columns that the log has."""
    if items is None:
        return None, columns
    of_behaviour = ("user_id", "item_id", "time", "label", "request", "target", *context)
    properties = {ours: name for ours, name in columns.items() if ours not in of_behaviour}
    lacking = {ours: name for ours, name in properties.items() if name not in table.names}
    known = read_items(items, columns["item_id"], lacking, skip_bad_lines)
    for ours, name in lacking.items():
        if ours not in known.columns:
            raise UserError(f"neither {table.path} nor {items} has a column {name!r}")
    return known, {ours: name for ours, name in columns.items() if ours not in lacking}


def _joined(raw: pl.DataFrame, known: pl.DataFrame | None, columns: dict[str, str]) -> pl.DataFrame:
    return raw if known is None else raw.join(known, on="item_id", how="left", maintain_order="left").select(*columns)


def clicks(label: pl.Series, path: Path, column: str, what: str = "label") -> pl.Series:
    """Return labels, or whether rows are targets, as 1 or 0."""
    values = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}
    mapped = label.str.to_lowercase().replace_strict(values, default=None, return_dtype=pl.Int8)
    if mapped.null_count():
        value = label.filter(mapped.is_null())[0]
        raise UserError(f"{path}: column {column!r} has the value {value!r}; a {what} must be 0 or 1")
    return mapped
