"""Any log of behaviours, CSV or Parquet, in the columns that the builders work on."""

import logging
import re
from pathlib import Path

import polars as pl

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN_CATEGORY, without_separator

RESERVED = re.compile(
    r"label|(neg_)?(user|item|cate)(_id)?|session|day|time|request|tie|event_(time|tie)|sample|"
    r"history_(start|length)|.*_history|neg_.*"
)
"""Names that the samples or their making use."""
SKIP_HINT = "; --skip-bad-lines leaves such rows out"


def read_log(
    path: Path,
    user: str,
    item: str,
    category: str,
    time: str,
    label: str | None = None,
    request: str | None = None,
    side: tuple[str, ...] = (),
    time_unit: str = "s",
    skip_bad_lines: bool = False,
) -> pl.DataFrame:
    """A log of one behaviour, or one exposure, a row.

    Args:
        path: a .csv (or .csv.gz, with a header line) or .parquet file.
        user, item, category, time: names of its columns. Time is a number in `time_unit` or a date.
        label: column that is 1 or true for a click and 0 or false for an exposure without one; without it every row
            is a behaviour.
        request: column that is equal for the exposures that were shown together.
        side: columns of further properties of a behaviour; they keep their names.
        time_unit: "s" or "ms".
        skip_bad_lines: leave rows without user, item, request or readable time, and those with more or fewer fields
            than the header, out instead of stopping at the first.

    Returns:
        In file order: user_id, item_id, cate_id (String), time (Int64, seconds), the side columns (String; empty
        where the log has none) and, where named, label (Int8) and request (String).

    Raises:
        UserError: the file or a column is missing, the file cannot be read or has no rows, a row has more or fewer
            fields than the header, a name is taken, a value is no time or no label.
    """
    columns = {"user_id": user, "item_id": item, "cate_id": category, "time": time}
    columns |= {"label": label} if label else {}
    columns |= {"request": request} if request else {}
    for name in side:
        if RESERVED.fullmatch(name) or side.count(name) > 1:
            raise UserError(f"side column {name!r}: the name is taken; rename the column in {path}")
    if request and not label:
        raise UserError("request needs label: only a log that has exposures without a click has requests")
    raw = read_columns(path, columns | {name: name for name in side}, skip_bad_lines)
    ids = ["user_id", "item_id", *(["request"] if request else [])]
    try:
        times = seconds(raw["time"], time_unit)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: column {time!r} holds no times: {str(error).splitlines()[0]}") from error
    log = raw.with_columns(
        *[without_separator(name).fill_null("") for name in (*ids, *side)],
        without_separator("cate_id").replace("", None).fill_null(UNKNOWN_CATEGORY),
        times,
    )
    unusable = log.select(pl.col(ids) == "", pl.col("time").is_null())
    bad = unusable.select(pl.any_horizontal(pl.all())).to_series()
    if bad.any() and not skip_bad_lines:
        row = int(bad.to_numpy().argmax())
        name = next(name for name in unusable.columns if unusable[name][row])
        raise UserError(f"{path}: row {row + 1} has no usable {columns[name]} ({raw[name][row]!r}){SKIP_HINT}")
    if bad.any():
        logging.warning(f"{path}: left out {bad.sum()} broken rows")
        log = log.filter(~bad)
    if log.is_empty():
        raise UserError(f"{path} has no rows")
    logging.info(f"Read {log.height} rows from {path}")
    return log.with_columns(clicks(log["label"], path, label)) if label else log


def read_columns(path: Path, columns: dict[str, str], skip_bad_lines: bool) -> pl.DataFrame:
    """Only the named columns of the file, under the builders' names; ids as text."""
    if not Path(path).is_file():
        raise UserError(f"raw file {path} does not exist")
    try:
        parquet = ".parquet" in Path(path).suffixes
        source = (
            pl.scan_parquet(path)
            if parquet
            else scan_csv(path, skip_bad_lines=skip_bad_lines, hint=SKIP_HINT, infer_schema=False)
        )
        present = source.collect_schema().names()
        lacking = [name for name in columns.values() if name not in present]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]!r}; it has {', '.join(present)}")
        return source.select(
            pl.col(name).alias(ours) if ours == "time" else pl.col(name).cast(pl.String).alias(ours)
            for ours, name in columns.items()
        ).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def seconds(time: pl.Series, unit: str) -> pl.Series:
    """Time in whole seconds; null where a value is no time. Text is read as numbers or dates, whichever fits more.

    A column of numbers that are all days such as 20240131 is one of dates: as seconds they would be in August 1970.
    """
    if not (time.dtype.is_numeric() or time.dtype.is_temporal()):
        text = time.cast(pl.String)
        time = text.str.strip_chars().cast(pl.Float64, strict=False)
        try:
            date = text.str.to_datetime(strict=False, time_zone="UTC")
            time = date if date.null_count() < time.null_count() else time
        except pl.exceptions.ComputeError:
            pass  # no value looks like a date
    if time.dtype.is_numeric() and time.drop_nulls().is_between(19000101, 21001231).all():
        days = time.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        time = days if days.null_count() == time.null_count() < len(time) else time
    if time.dtype.is_temporal():
        return time.cast(pl.Datetime("ms")).dt.timestamp("ms") // 1000
    return (time.cast(pl.Float64) / {"s": 1, "ms": 1000}[unit]).floor().cast(pl.Int64, strict=False)


def clicks(label: pl.Series, path: Path, column: str) -> pl.Series:
    """Labels as 1 or 0."""
    values = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}
    mapped = label.str.to_lowercase().replace_strict(values, default=None, return_dtype=pl.Int8)
    if mapped.null_count():
        value = label.filter(mapped.is_null())[0]
        raise UserError(f"{path}: column {column!r} has the value {value!r}; a label is 0 or 1")
    return mapped
