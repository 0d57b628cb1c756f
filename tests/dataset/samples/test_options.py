import datetime as dt

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.options import REQUIRED, check_options, options_of

AMAZON = {"source": "amazon", "reviews": "r", "meta": "m"}
LOG = {"source": "log", "input": "l", "user": "u", "item": "i", "category": "c", "time": "t"}


def test_defaults() -> None:
    options = check_options(AMAZON)
    assert options == {
        "source": "amazon",
        "reviews": "r",
        "meta": "m",
        "form": "auto",
        "protocol": "leave_one_out",
        "negatives": "matched",
        "exclude_history": False,
        "ties": "random",
        "max_len": 100,
        "session_gap": 1800,
        "min_history": 1,
        "seed": 2019,
        "skip_bad_lines": False,
        "format": "parquet",
        "raw_from": None,
    }
    assert check_options(options) == options


@pytest.mark.parametrize(
    ("protocol", "added"),
    [
        ("last", {"folds": 10, "fold": 0}),
        ("window", {"target_days": 49, "history_days": 14, "valid_days": 1, "test_days": 1, "max_len": 50}),
        ("time", {"valid_from": "2024-01-01", "test_from": "1400000000"}),
    ],
)
def test_options_of_a_protocol(protocol: str, added: dict) -> None:
    given = {**AMAZON, "protocol": protocol}
    if protocol == "time":
        given |= {"valid_from": dt.date(2024, 1, 1), "test_from": 1_400_000_000}
    assert check_options(given) == {**check_options(AMAZON), "protocol": protocol, **added}


def test_values_as_the_command_line_and_as_yaml_give_them() -> None:
    assert check_options({**AMAZON, "form": 2014, "max_len": 7})["form"] == "2014"
    for side in ("brand, price", ["brand", "price"], ("brand", "price")):
        assert check_options({**LOG, "side": side})["side"] == ("brand", "price")
    assert check_options({**LOG, "user": 0})["user"] == "0"
    assert check_options({**AMAZON, "folds": None, "max_len": None})["max_len"] == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "build option source is None; it must be one of amazon, log"),
        ({"source": "csv"}, "build option source is 'csv'; it must be one of amazon, log"),
        ({"source": "amazon", "reviews": "r"}, "build option meta is missing: raw metadata of the items"),
        (
            {**AMAZON, "negative": "uniform"},
            "unknown build option 'negative' for source amazon; did you mean negatives?",
        ),
        ({**AMAZON, "user": "u"}, "unknown build option 'user' for source amazon; did you mean "),
        (
            {**AMAZON, "zzz": 1},
            "unknown build option 'zzz' for source amazon; did you mean reviews, meta, form, protocol,",
        ),
        ({**AMAZON, "fold": 1}, "build option fold belongs to protocol last; protocol is leave_one_out"),
        ({**AMAZON, "protocol": "time", "valid_from": 1}, "build option test_from is missing: first test time"),
        ({**AMAZON, "protocol": "prefix"}, "build option protocol is 'prefix'; it must be one of last, leave_one_out"),
        ({**AMAZON, "negatives": "none"}, "is 'none'; it must be one of matched, popularity, uniform"),
        ({**AMAZON, "ties": "stable"}, "build option ties is 'stable'; it must be one of random, file"),
        ({**AMAZON, "max_len": 0}, "build option max_len is 0; it must be a whole number, 1 or more"),
        ({**AMAZON, "max_len": 10**20}, f"max_len is {10**20}; it must be a whole number, {2**63 - 1} or less"),
        ({**AMAZON, "protocol": "window", "history_days": 10**10}, "it must be a whole number, 1000000000 or less"),
        ({**AMAZON, "max_len": 1.5}, "build option max_len is 1.5; it must be a whole number, 1 or more"),
        ({**AMAZON, "min_history": -1}, "build option min_history is -1; it must be a whole number, 0 or more"),
        ({**AMAZON, "seed": True}, "build option seed is True; it must be a whole number, 0 or more"),
        ({**AMAZON, "exclude_history": 1}, "build option exclude_history is 1; it must be true or false"),
        ({**AMAZON, "protocol": "last", "folds": 1}, "build option folds is 1; it must be a whole number, 2 or more"),
        ({**AMAZON, "reviews": ["a", "b"]}, r"build option reviews is ['a', 'b']; it must be one value"),
        ({**LOG, "side": 5}, "build option side is 5; it must be a list"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_options(options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_option_is_explained() -> None:
    for source in ("amazon", "log"):
        for option in options_of(source).values():
            assert option.help and (option.default in (REQUIRED, None, ()) or isinstance(option.default, option.kind))
