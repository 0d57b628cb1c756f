import logging
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.behaviour_log import read_log
from dien_fuxictr.dataset.samples.times import ACCEPTED, read_times

NOON = 1_704_110_400
MIDNIGHT = NOON - 43_200
DAY = 86_400


def seconds(values: list | pl.Series, **options) -> list:
    return read_times(pl.Series(values), **options).seconds.to_list()


def read(values: list | pl.Series, path: Path, **options) -> list[int]:
    frame = pl.DataFrame({"uid": "u", "iid": "i", "cid": "c", "ts": values})
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    log = read_log(path, "uid", "iid", "cid", "ts", **options)
    return log["time"].to_list()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2024-01-01", "1969-12-31"], [MIDNIGHT, -DAY]),
        (["2024-01-01 12:00:00", "2024-01-01 12:00:59.9"], [NOON, NOON + 59]),
        (["2024-01-01T12:00:00Z", "2024-01-01T14:00:00+02:00"], [NOON, NOON]),
        (["2024-01-01", "2024-01-01T12:00:00", "2024-01-01T12:00:00Z", "2024-01-01"], [MIDNIGHT, NOON, NOON, MIDNIGHT]),
        (["2024-01-01T14:00:00+02:00", "2024-01-01 12:00"], [NOON, NOON]),
        (["2024/01/01 12:00:00", " 2024/01/01 12:00:01 "], [NOON, NOON + 1]),
        (["20240101T120000", None], [NOON, None]),
        ([" 17 ", "1e3"], [17, 1000]),
        (["17.9", "-0.5"], [17, -1]),
        ([17, 18], [17, 18]),
        ([17.9, -0.5], [17, -1]),
        ([1.0, float("nan")], [1, None]),
        (pl.Series([1, 2**63 + 1], dtype=pl.UInt64), [1, None]),
        ([date(2024, 1, 1)], [MIDNIGHT]),
        ([datetime(2024, 1, 1, 12)], [NOON]),
        ([datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))], [NOON]),
        (pl.Series(["2024-01-01"]).cast(pl.Categorical), [MIDNIGHT]),
        ([None], [None]),
        (["never"], [None]),
    ],
)
def test_numbers_and_dates(values: list | pl.Series, expected: list[int | None]) -> None:
    assert seconds(values) == expected


FORMS = [
    *("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f"),
    *("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S+00:00", "%Y%m%dT%H%M%S", "%Y%m%dT%H%M%SZ"),
]


@pytest.mark.parametrize("form", FORMS)
@given(moments=st.lists(st.datetimes(datetime(1990, 1, 1), datetime(2100, 12, 31)), min_size=1, max_size=5))
def test_dates_against_strptime(form: str, moments: list[datetime]) -> None:
    """A column by itself can look like one of another form."""
    text = [moment.strftime(form) for moment in moments]
    expected = [datetime.strptime(each, form).replace(tzinfo=timezone.utc).timestamp() // 1 for each in text]
    assert seconds(text) == expected


@given(
    st.lists(st.tuples(st.datetimes(datetime(1990, 1, 1), datetime(2100, 12, 31)), st.sampled_from(FORMS)), min_size=1)
)
def test_a_column_of_dates_of_several_forms(rows: list[tuple[datetime, str]]) -> None:
    """Read days and times, with a zone or without, in any order.

    Days without separators are left out, since they are numbers.
    """
    rows = [(moment, form) for moment, form in rows if form != "%Y%m%d"]
    text = [moment.strftime(form) for moment, form in rows]
    expected = [
        datetime.strptime(row, form).replace(tzinfo=timezone.utc) for row, (_, form) in zip(text, rows, strict=True)
    ]
    assert seconds([*text, "2024-02-30", "never"]) == [*(moment.timestamp() // 1 for moment in expected), None, None]


def test_numbers_among_dates_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 3 has no usable ts \('20240203'\): .* 12:00:00, all rows of one kind; "):
        read(["2024-02-02", "2024-02-02T10:00:00Z", "20240203"], tmp_path / "log.csv")


def test_whole_numbers_that_are_all_days_are_dates() -> None:
    days = [19700102, 20240131, 20240229]
    expected = [DAY, 1_706_659_200, 1_709_164_800]
    for unit in (None, "s"):
        assert seconds(days, unit=unit) == seconds([str(day) for day in days], unit=unit) == expected
    assert seconds([*days, 20240230]) == [*days, 20240230]  # no such day: seconds


@pytest.mark.parametrize(("unit", "many"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_the_unit_is_guessed_from_the_range(
    unit: str, many: int, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for first in (631_152_000, NOON, 4_133_980_798):
        values = [first * many, (first + 1) * many]
        assert read(values, tmp_path / name) == [first, first + 1]
        assert f"ts as numbers in {unit} by their range, from " in caplog.text
        caplog.clear()
        assert read(values, tmp_path / name, time_unit=unit) == [first, first + 1]
        assert f"ts as numbers in {unit}, from " in caplog.text
        caplog.clear()
    read([NOON * many], tmp_path / name)
    assert caplog.text.endswith(
        f"ts as numbers in {unit} by their range, from 2024-01-01T12:00:00 to 2024-01-01T12:00:00\n"
    )
    assert seconds([NOON * many + many - 1, -1], unit=unit) == [NOON, -1]


@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([NOON, 17], "17 is of the year 1970, read as numbers in s by their range"),
        ([NOON * 1000, NOON], f"{NOON} is of the year 1970, read as numbers in ms by their range"),
        ([NOON, NOON * 1000], f"{NOON * 1000} is of the year 55971, read as numbers in s by their range"),
        ([NOON, 631_151_999], "631151999 is of the year 1989, read as numbers in s by their range"),
        ([NOON, 4_133_980_800], "4133980800 is of the year 2101, read as numbers in s by their range"),
        (["2024-01-01", "1970-01-01"], "'1970-01-01' is of the year 1970, read as dates"),
        ([20240131, 19700102], "19700102 is of the year 1970, read as days such as 20240131"),
    ],
)
def test_years_that_no_log_is_of(name: str, values: list, shown: str, tmp_path: Path, caplog) -> None:
    path = tmp_path / name
    values = values[:1] + values
    if name == "log.csv" and not shown.startswith("'"):
        shown = f"'{shown.replace(' ', chr(39) + ' ', 1)}"
    message = (
        f"row 3: ts {shown}; years before 1990 and after 2100 are refused unless --time-unit (s, ms, us, ns) is given"
    )
    with pytest.raises(UserError) as caught:
        read(values, path)
    assert str(caught.value) == f"{path}: {message}; broken rows: 1 of 3 read; --skip-bad-lines leaves such rows out"
    kept = read(values, path, skip_bad_lines=True, duplicates="keep")
    assert len(kept) == 2 and f"{path}: left out 1 broken rows ({message})" in caplog.text
    unit = "ms" if "in ms" in shown else "s"
    assert read(values, path, duplicates="keep", time_unit=unit)[:2] == kept


@pytest.mark.parametrize("value", ["02/03/2024", "02-03-2024", "2.3.2024", "02/03/2024 05:06:07", "Feb 3 2024"])
def test_date_without_a_day_is_not_a_date(value: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(["02/13/2024", value], tmp_path / "log.csv")
    assert f"row 1 has no usable ts ('02/13/2024'): {ACCEPTED}; broken rows: " in str(caught.value)
    with pytest.raises(UserError, match=f"row 2 has no usable ts .'{value}'.: times are numbers, days such as "):
        read(["2024-02-03", value], tmp_path / "log.csv")


@pytest.mark.parametrize(
    ("form", "value", "expected"),
    [
        ("%d/%m/%Y", "01/02/2024", MIDNIGHT + 31 * DAY),
        ("%m/%d/%Y", "02/01/2024", MIDNIGHT + 31 * DAY),
        ("%d.%m.%Y %H:%M", "01.01.2024 12:00", NOON),
        ("%b %d, %Y %I:%M:%S %p %z", "Jan 01, 2024 02:00:00 PM +0200", NOON),
        ("%Y%m%d%H%M%S", "20240101120000", NOON),
    ],
)
def test_a_form(form: str, value: str, expected: int, tmp_path: Path) -> None:
    assert read([value], tmp_path / "log.csv", time_format=form) == [expected]
    with pytest.raises(UserError) as caught:
        read([value, "2024-13-01"], tmp_path / "log.csv", time_format=form)
    assert (
        f"row 2 has no usable ts ('2024-13-01'): it does not match --time-format {form}; broken rows: 1 of 2 read; "
        in str(caught.value)
    )


def test_a_form_of_numbers_and_one_without_a_year(tmp_path: Path) -> None:
    assert read([20240101120000], tmp_path / "log.parquet", time_format="%Y%m%d%H%M%S") == [NOON]
    assert read([datetime(2024, 1, 1, 12)], tmp_path / "log.parquet", time_format="%Y") == [NOON]
    with pytest.raises(UserError, match="'12:30' is of the year 0001, read as text of the form %H:%M; years before"):
        read(["12:30"], tmp_path / "log.csv", time_format="%H:%M")
