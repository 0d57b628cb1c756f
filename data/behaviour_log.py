"""Any log of behaviours, CSV or Parquet, in the columns that the builders work on."""

import logging
from pathlib import Path

import polars as pl

from data.amazon import UNKNOWN_CATEGORY, without_separator
from data.errors import UserError

logger = logging.getLogger(__name__)

RESERVED = {"label", "user_id", "item_id", "cate_id", "item", "cate", "time", "request", "event_time", "history_start",
            "history_length"}


def read_log(path: Path, user: str, item: str, category: str, time: str, label: str | None = None,
             request: str | None = None, side: tuple[str, ...] = (), time_unit: str = "s",
             skip_bad_lines: bool = False) -> pl.DataFrame:
    """A log of one behaviour, or one exposure, a row.

    Args:
        path: A .csv (or .csv.gz, with a header line) or .parquet file.
        user, item, category, time: Names of its columns. Time is a number in ``time_unit`` or a date.
        label: Column that is 1 or true for a click and 0 or false for an exposure without one; without it every row
            is a behaviour.
        request: Column that is equal for the exposures that were shown together.
        side: Columns of further properties of a behaviour; they keep their names.
        time_unit: "s" or "ms".
        skip_bad_lines: Leave rows without user, item or readable time out instead of stopping at the first.

    Returns:
        In file order: user_id, item_id, cate_id (String), time (Int64, seconds), the side columns (String; empty
        where the log has none) and, where named, label (Int8) and request (String).

    Raises:
        UserError: the file or a column is missing, the file cannot be read or has no rows, a name is taken, a value
            is no time or no label.
    """
    columns = {"user_id": user, "item_id": item, "cate_id": category, "time": time}
    columns |= {"label": label} if label else {}
    columns |= {"request": request} if request else {}
    for name in side:
        if name in RESERVED or side.count(name) > 1:
            raise UserError(f"side column {name!r}: the name is taken; rename the column in {path}")
    if request and not label:
        raise UserError("request needs label: only a log that has exposures without a click has requests")
    log = read_columns(path, columns | {name: name for name in side})
    log = log.with_columns(
        *[without_separator(name).fill_null("") for name in ("user_id", "item_id", "request", *side) if name in log],
        without_separator("cate_id").replace("", None).fill_null(UNKNOWN_CATEGORY),
        seconds(log["time"], time_unit))
    usable = (pl.col("user_id") != "") & (pl.col("item_id") != "") & pl.col("time").is_not_null()
    bad = log.select(~usable).to_series()
    if bad.any() and not skip_bad_lines:
        row = bad.arg_max()
        raise UserError(f"{path}: row {row + 1} has no usable {user}, {item} or {time} "
                        f"({', '.join(map(repr, log.row(row)[:4]))}); --skip-bad-lines leaves such rows out")
    if bad.any():
        logger.warning("%s: left out %d broken rows", path, bad.sum())
        log = log.filter(~bad)
    if log.is_empty():
        raise UserError(f"{path} has no rows")
    logger.info("Read %d rows from %s", log.height, path)
    return log.with_columns(clicks(log["label"], path, label)) if label else log


def read_columns(path: Path, columns: dict[str, str]) -> pl.DataFrame:
    """Only the named columns of the file, under the builders' names; ids as text."""
    if not Path(path).is_file():
        raise UserError(f"raw file {path} does not exist")
    try:
        parquet = ".parquet" in Path(path).suffixes
        source = pl.scan_parquet(path) if parquet else pl.scan_csv(path, infer_schema=False)
        present = source.collect_schema().names()
        lacking = [name for name in columns.values() if name not in present]
        if lacking:
            raise UserError(f"{path} has no column {lacking[0]!r}; it has {', '.join(present)}")
        log = source.select(pl.col(name).alias(ours) for ours, name in columns.items()).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    text = [name for name in log.columns if name != "time"]
    return log.with_columns(pl.col(text).cast(pl.String))


def seconds(time: pl.Series, unit: str) -> pl.Series:
    """Time in whole seconds; null where a value is no time."""
    if time.dtype == pl.String:
        number = time.str.strip_chars().cast(pl.Float64, strict=False)
        try:
            time = time.str.to_datetime(strict=False, time_zone="UTC") if number.is_null().all() else number
        except pl.exceptions.ComputeError:  # no value looks like a date
            time = number
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
