"""The options of a build: the keys of a data set's `build:` section and the flags of `python build_dataset.py`."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BeforeValidator

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract, described, whole
from dien_fuxictr.common.suggestions import nearest

REQUIRED = object()


def _as_text(value: Any) -> Any:
    """A number (a column's name, a year) or a date as text, which YAML does not read as such."""
    return str(value) if isinstance(value, (int, dt.date)) and not isinstance(value, bool) else value


def _as_names(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    return tuple(str(_as_text(name)).strip() for name in names) if isinstance(names, (list, tuple)) else value


TEXT = Annotated[str, BeforeValidator(_as_text)]
FILE = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
NAMES = described(tuple[str, ...], "a list of names, or names separated by commas", BeforeValidator(_as_names))


def _one_of(*choices: str) -> Any:
    return Annotated[Literal[choices], BeforeValidator(_as_text)]


@dataclass(frozen=True)
class Option:
    """One option: its default, what it means, its type, and the protocol it belongs to, if to one."""

    default: Any
    help: str
    kind: Any = TEXT
    protocol: str | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where it lists them."""
        (bare, *_) = get_args(self.kind) or (self.kind,)
        return get_args(bare) if get_origin(bare) is Literal else ()

    @property
    def is_number(self) -> bool:
        """Whether it is a whole number."""
        return get_args(self.kind)[:1] == (int,)


RAW_FILES = ("reviews", "meta", "input", "items")
"""Options of whichever source that name a raw file."""
TABLES = ("input", "items")
"""Those of them that may name several: a folder or a pattern."""

SOURCES: dict[str, dict[str, Option]] = {
    "amazon": {
        "reviews": Option(REQUIRED, "raw reviews, one JSON object a line, gzipped or not", FILE),
        "meta": Option(REQUIRED, "raw metadata of the items, gzipped or not", FILE),
        "form": Option(
            "auto", "which of the published forms the files have", kind=_one_of("auto", "2014", "2018", "2023")
        ),
    },
    "log": {
        "input": Option(
            REQUIRED,
            "the log: a file .csv or .csv.gz with a header line, .parquet, or RecBole's .inter; a folder of .parquet "
            "files, day=2024-01-31/ and the like below it being columns; or a pattern such as 'log/*.csv.gz' (quoted)",
            FILE,
        ),
        "user": Option(REQUIRED, "column of the user"),
        "item": Option(REQUIRED, "column of the item"),
        "category": Option(None, "column of the item's category; without it samples have items alone"),
        "time": Option(REQUIRED, "column of the time"),
        "time_unit": Option(
            None,
            "unit of numeric times; without it the unit is guessed from their range, and years before 1990 and after "
            "2100 are refused",
            kind=_one_of("s", "ms", "us", "ns"),
        ),
        "time_format": Option(
            None,
            "form of the times, in strptime's notation, such as %d/%m/%Y; without it times are numbers, days such as "
            "20240131 or ISO 8601",
        ),
        "duplicates": Option(
            "drop",
            "what becomes of rows that equal an earlier one in all columns that are read",
            kind=_one_of("drop", "keep"),
        ),
        "label": Option(
            None, "column that is 1 for a click and 0 for an exposure without one, instead of sampled negatives"
        ),
        "request": Option(None, "column that is equal for exposures shown together; needs --label"),
        "target": Option(
            None,
            "column that is 1 for rows that become samples and 0 for those that are in histories only (default all)",
        ),
        "side": Option(
            (),
            "columns of further properties of the item, such as brand, separated by commas; where negatives are "
            "sampled an item has one value of each, the commonest in the log",
            kind=NAMES,
        ),
        "side_varies": Option(
            (),
            "those of --side and --category whose value changes over time, such as price: a behaviour has its own "
            "value, a sample the item's latest one before its time",
            kind=NAMES,
        ),
        "context": Option(
            (),
            "columns of the user or the request, such as device, separated by commas: features of the sample, the same "
            "for a positive and its sampled negative",
            kind=NAMES,
        ),
        "context_history": Option(
            (), "those of --context that are stored with each behaviour too, as <name>_history", kind=NAMES
        ),
        "items": Option(
            None,
            "file with a row an item, of the same forms or RecBole's .item, that has the item's column and those of "
            "--category and --side that the log lacks",
            FILE,
        ),
    },
}

COMMON: dict[str, Option] = {
    "protocol": Option(
        "leave_one_out",
        "what is predicted in which split, see protocols",
        kind=_one_of("last", "leave_one_out", "time", "window"),
    ),
    "negatives": Option(
        "matched",
        "where sampled negatives come from: the positives of the split, all behaviours, or all items alike",
        kind=_one_of("matched", "popularity", "uniform"),
    ),
    "exclude_history": Option(False, "let no sampled negative be an item of the history", kind=bool),
    "ties": Option(
        "random",
        "order of behaviours of one time: random, or that of the file, which can leak",
        kind=_one_of("random", "file"),
    ),
    "history_order": Option(
        "time",
        "order of the behaviours of a history: that of their times, or for each history a random one, which shows what "
        "a model owes to the order; rows, labels and negatives are the same",
        kind=_one_of("time", "shuffled"),
    ),
    "max_len": Option(
        None,
        "keep the latest MAX_LEN behaviours of a history (default 100, with protocol window 50)",
        kind=whole(1),
    ),
    "session_gap": Option(1800, "seconds without a behaviour that end a session, for session_history", kind=whole(0)),
    "min_history": Option(1, "leave samples with a shorter history out", kind=whole(0)),
    "seed": Option(2019, "seed of ties, user splits, negatives and row order", kind=whole(0)),
    "skip_bad_lines": Option(
        False,
        "leave broken lines out, such as rows of a wrong number of fields, and say how many, instead of stopping at "
        "the first",
        kind=bool,
    ),
    "test_last": Option(
        1,
        "a user's last TEST_LAST behaviours are for the test, as many before them for validation; one with fewer has "
        "test samples first, then some for validation",
        kind=whole(1),
        protocol="leave_one_out",
    ),
    "targets_per_user": Option(
        None,
        "only a user's latest TARGETS_PER_USER training behaviours become training rows; splits for validation and "
        "test, vocabularies and the catalogue of behaviours are those of all (default all)",
        kind=whole(1),
        protocol="leave_one_out",
    ),
    "folds": Option(10, "cut the users into this many parts", kind=whole(2), protocol="last"),
    "fold": Option(0, "the part for the test, from 0", kind=whole(0), protocol="last"),
    "valid_from": Option(REQUIRED, "first validation time, a date (UTC) or seconds", protocol="time"),
    "test_from": Option(REQUIRED, "first test time, a date (UTC) or seconds", protocol="time"),
    "target_days": Option(49, "days of targets, up to the log's last", kind=whole(3), protocol="window"),
    "history_days": Option(14, "days of history before a target", kind=whole(1, 10**9), protocol="window"),
    "valid_days": Option(1, "days for validation, before those of the test", kind=whole(1), protocol="window"),
    "test_days": Option(1, "last days, for the test", kind=whole(1), protocol="window"),
    "format": Option(
        "parquet",
        "form of the samples; csv joins histories by ^, which no item, category or side value may then hold",
        kind=_one_of("parquet", "csv", "both"),
    ),
    "raw_from": Option(None, "command that gets the raw files, shown when one is missing"),
}


def options_of(source: str) -> dict[str, Option]:
    """All options of a source: "amazon" or "log"."""
    return SOURCES[source] | COMMON


_CONTRACTS = {
    source: Contract({name: [option.kind] for name, option in options_of(source).items()}) for source in SOURCES
}


def check_options(given: dict) -> dict:
    """The options with defaults filled in; those of other protocols are left out.

    Raises:
        UserError: an option is unknown (names the nearest), missing, of a wrong value, or of another protocol.
    """
    given = {name: value for name, value in given.items() if value is not None}
    Contract({"source": [Literal[tuple(SOURCES)]]}, ["source"], given).check(given, lambda _: "the build")
    source = given.pop("source")
    known, place = options_of(source), f"the build from source {source}"
    if unknown := _CONTRACTS[source].check(given, lambda _: place):
        near = nearest(unknown[0], known) or [", ".join(known)]
        raise UserError(f"unknown key {unknown[0]!r} in {place}; did you mean {near[0]}?")
    protocol = given.get("protocol", COMMON["protocol"].default)
    checked: dict[str, Any] = {"source": source}
    for name, option in known.items():
        if option.protocol not in (None, protocol):
            if name in given:
                raise UserError(f"{name} in {place} belongs to protocol {option.protocol}; protocol is {protocol}")
            continue
        if option.default is REQUIRED and name not in given:
            raise UserError(f"{name} is missing in {place}: {option.help}")
        checked[name] = given.get(name, option.default)
    _check_roles(checked, place)
    if checked["max_len"] is None:
        checked["max_len"] = 50 if protocol == "window" else 100
    return checked


def _check_roles(options: dict, place: str) -> None:
    """Raise UserError where the options that name columns contradict each other."""
    side, context = options.get("side", ()), options.get("context", ())
    for name in context:
        if name in side:
            raise UserError(f"column {name!r} is in side and context of {place}; it belongs to the item or to the user")
    for option, names, within in (
        ("side_varies", (*side, options.get("category")), "side or the category"),
        ("context_history", context, "context"),
    ):
        for name in options.get(option, ()):
            if name not in names:
                raise UserError(f"column {name!r} in {option} of {place} must be named in {within}, too")
