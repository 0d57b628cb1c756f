"""Convert times of a log to whole seconds.

Times are numbers of some unit, days such as 20240131, or dates.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Unit of numbers -> how many are a second."""
EARLIEST, END = (int(np.datetime64(year, "s").astype(int)) for year in ("1990", "2101"))
"""Range of times if no unit is given, 1990 to 2100, in seconds."""
ACCEPTED = (
    "times are numbers, days such as 20240131 or ISO 8601 such as 2024-01-31 12:00:00, all rows of one kind; other "
    "forms need --time-format"
)
_BASIC = r"^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})"
"""ISO 8601's basic format."""
_YEAR_FIRST = r"^\d{4}[-/.]"
"""Accepted form of dates; in other forms, day and month are ambiguous."""


@dataclass(frozen=True)
class Times:
    """A column of times.

    Attributes:
        raw: as they were.
        seconds: Int64; null where a value is not a time.
        read_as: what the values were taken for, for people.
        wanted: what was expected of them, for people.
    """

    raw: pl.Series
    seconds: pl.Series
    read_as: str
    wanted: str = ACCEPTED

    def outside(self) -> pl.Series:
        """Return whether each is a time, but before 1990 or after 2100."""
        return ~self.seconds.is_between(EARLIEST, END - 1).fill_null(True)

    def of_year(self, row: int) -> str:
        """Return why a value that is outside is refused."""
        year = np.datetime64(self.seconds[row], "s").astype("datetime64[Y]")
        return (
            f"{self.raw[row]!r} is of the year {year}, read as {self.read_as}; years before 1990 and after 2100 are "
            f"refused unless --time-unit ({', '.join(UNITS)}) is given"
        )


def read_times(raw: pl.Series, unit: str | None = None, form: str | None = None) -> Times:
    """Return times from numbers, dates, or text of either kind.

    Text is read as the kind that matches more of its values. If all numbers of a column are days such as 20240131, they
    are dates: as seconds they would be in August 1970.

    Args:
        raw: a column of any type.
        unit: unit of numbers, one of `UNITS`; None: the unit in which their median is from 1990 to 2100, else "s".
        form: format of text, in strptime's notation of polars; None: dates begin with the year.

    Raises:
        polars.exceptions.PolarsError: the type cannot be read as times.
    """
    if raw.dtype.is_temporal():
        return Times(raw, _epoch(raw), "dates")
    if form:
        dates = raw.cast(pl.String).str.to_datetime(form, strict=False)
        return Times(raw, _epoch(dates), f"text of the form {form}", f"it does not match --time-format {form}")
    numbers = raw
    if not raw.dtype.is_numeric():
        text = raw.cast(pl.String).str.strip_chars()
        numbers, dates = text.cast(pl.Float64, strict=False), _dates(text)
        if dates.null_count() < numbers.null_count():
            return Times(raw, _epoch(dates), "dates")
    if numbers.drop_nulls().is_between(19000101, 21001231).all():
        days = numbers.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False)
        if days.null_count() == numbers.null_count() < len(numbers):
            return Times(raw, _epoch(days), "days such as 20240131")
    read_as = f"numbers in {unit}" if unit else f"numbers in {guess_unit(numbers)} by their range"
    return Times(raw, _whole_seconds(numbers, unit or guess_unit(numbers)), read_as)


def guess_unit(numbers: pl.Series) -> str:
    """Return the unit in which the median is from 1990 to 2100; "s" if there is none."""
    values = numbers.cast(pl.Float64).drop_nulls().drop_nans().to_numpy()
    median = np.median(values) if len(values) else 0.0
    return next((unit for unit, many in UNITS.items() if EARLIEST <= median / many < END), "s")


def _whole_seconds(numbers: pl.Series, unit: str) -> pl.Series:
    seconds = numbers // UNITS[unit] if numbers.dtype.is_integer() else (numbers / UNITS[unit]).floor()
    return seconds.cast(pl.Int64, strict=False)


def _dates(text: pl.Series) -> pl.Series:
    written_out = text.str.replace(_BASIC, "${1}-${2}-${3}T${4}:${5}:${6}").to_frame("text")
    known = written_out.select(pl.when(pl.col("text").str.contains(_YEAR_FIRST)).then("text")).to_series()
    dates = _of_one_kind(known)
    if dates.null_count() > known.null_count():
        dates = dates.fill_null(_of_one_kind(known.zip_with(dates.is_null(), pl.Series([None], dtype=pl.String))))
    return dates


def _of_one_kind(text: pl.Series) -> pl.Series:
    """Return the dates with a zone, or those without, whichever kind comes first.

    polars does not accept a mix of the two.
    """
    try:
        return text.str.to_datetime(strict=False, time_zone="UTC")
    except pl.exceptions.ComputeError:  # no value looks like a date
        return pl.Series([None], dtype=pl.Datetime("us", "UTC")).new_from_index(0, len(text))


def _epoch(dates: pl.Series) -> pl.Series:
    return dates.cast(pl.Datetime("ms")).dt.timestamp("ms") // 1000
