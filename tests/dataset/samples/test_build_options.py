import datetime as dt

import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.amazon import META_FIELDS
from dien_fuxictr.dataset.samples.build_options import REQUIRED, BuildOptions, options_of
from dien_fuxictr.dataset.samples.sample_negatives import SAMPLERS
from dien_fuxictr.dataset.samples.times import UNITS

AMAZON = {"source": "amazon", "reviews": "r", "meta": "m"}
TIMES = {"time": {"valid_from": 1, "test_from": 2}, "last": {}, "leave_one_out": {}, "window": {}, None: {}}
LOG = {"source": "log", "input": "l", "user": "u", "item": "i", "category": "c", "time": "t"}


def test_defaults() -> None:
    options = BuildOptions.of(AMAZON)
    assert options.stated() == {
        "source": "amazon",
        "reviews": "r",
        "meta": "m",
        "form": "auto",
        "protocol": "leave_one_out",
        "negatives": "matched",
        "exclude_history": False,
        "ties": "random",
        "history_order": "time",
        "max_len": 100,
        "session_gap": 1800,
        "min_history": 1,
        "seed": 2019,
        "skip_bad_lines": False,
        "test_last": 1,
        "targets_per_user": None,
        "format": "parquet",
        "raw_from": None,
    }
    assert BuildOptions.of(options.stated()) == options


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
    of_others = {name for name, option in options_of("amazon").items() if option.meaning.protocol == "leave_one_out"}
    common = {name: value for name, value in BuildOptions.of(AMAZON).stated().items() if name not in of_others}
    assert len(of_others) == 2 and BuildOptions.of(given).stated() == {**common, "protocol": protocol, **added}


def test_values_as_the_command_line_and_as_yaml_give_them() -> None:
    assert BuildOptions.of({**AMAZON, "form": 2014, "max_len": 7}).form == "2014"
    for side in ("brand, price", ["brand", "price"], ("brand", "price")):
        assert BuildOptions.of({**LOG, "side": side}).side == ("brand", "price")
    assert BuildOptions.of({**LOG, "user": 0}).user == "0"
    assert BuildOptions.of({**AMAZON, "folds": None, "max_len": None}).max_len == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "source is missing in the build"),
        ({"source": "csv"}, "source = 'csv' in the build must be amazon or log"),
        ({"source": []}, "source = [] in the build must be amazon or log"),
        ({"source": "amazon", "reviews": "r"}, "meta is missing in the build from source amazon: raw metadata of the"),
        (
            {**AMAZON, "negative": "uniform"},
            "unknown key 'negative' in the build from source amazon; did you mean 'negat",
        ),
        ({**AMAZON, "user": "u"}, "unknown key 'user' in the build from source amazon; did you mean "),
        (
            {**AMAZON, "zzz": 1},
            "unknown key 'zzz' in the build from source amazon; did you mean reviews, meta, form, pr",
        ),
        ({**AMAZON, 5: 1}, "the key 5 in the build must be text"),
        ({**AMAZON, "fold": 1}, "fold in the build from source amazon cannot be combined with protocol leave_one"),
        (
            {**AMAZON, "protocol": "last", "test_last": 2},
            "test_last in the build from source amazon cannot be combined with protocol last; it belongs to protocol",
        ),
        ({**AMAZON, "test_last": 0}, "test_last = 0 in the build from source amazon must be a whole number, 1 or more"),
        (
            {**AMAZON, "protocol": "time", "valid_from": 1},
            "test_from is missing in the build from source amazon: first",
        ),
        (
            {**AMAZON, "protocol": "prefix"},
            "protocol = 'prefix' in the build from source amazon must be last, leave_one",
        ),
        (
            {**AMAZON, "negatives": "none"},
            "negatives = 'none' in the build from source amazon must be matched, popular",
        ),
        ({**AMAZON, "ties": "stable"}, "ties = 'stable' in the build from source amazon must be random or file"),
        ({**AMAZON, "max_len": 0}, "max_len = 0 in the build from source amazon must be a whole number, 1 or more"),
        ({**AMAZON, "max_len": 10**20}, "max_len = 100000000000000000000 in the build"),
        ({**AMAZON, "max_len": 1.5}, "max_len = 1.5 in the build"),
        (
            {**AMAZON, "min_history": -1},
            "min_history = -1 in the build from source amazon must be a whole number, 0 or more",
        ),
        ({**AMAZON, "seed": True}, "seed = True in the build from source amazon must be a whole number, 0 or more"),
        ({**AMAZON, "exclude_history": 1}, "exclude_history = 1 in the build from source amazon must be True or False"),
        (
            {**AMAZON, "protocol": "last", "folds": 1},
            "folds = 1 in the build from source amazon must be a whole number",
        ),
        ({**AMAZON, "reviews": ["a", "b"]}, "reviews = ['a', 'b'] in the build from source amazon must be text"),
        ({**AMAZON, "reviews": True}, "reviews = True in the build from source amazon must be text"),
        (
            {**LOG, "side": 5},
            "side = 5 in the build from source log must be a list of names, or names separated by comma",
        ),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(UserError) as caught:
        BuildOptions.of(options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_every_option_is_explained_and_its_default_is_allowed() -> None:
    for source, needed in (("amazon", AMAZON), ("log", LOG)):
        for name, option in options_of(source).items():
            assert option.meaning.text
            if option.default not in (REQUIRED, None, ()):
                assert BuildOptions.of(
                    {
                        **needed,
                        "protocol": option.meaning.protocol,
                        name: option.default,
                        **TIMES[option.meaning.protocol],
                    }
                )


def test_choices_are_those_that_a_build_knows() -> None:
    assert options_of("amazon")["form"].choices == ("auto", *META_FIELDS)
    assert options_of("log")["negatives"].choices == tuple(SAMPLERS)
    assert options_of("log")["time_unit"].choices == tuple(UNITS)
