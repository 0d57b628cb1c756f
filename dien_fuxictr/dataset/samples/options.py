"""The options of a build: the keys of a data set's `build:` section and the flags of `python build_dataset.py`."""

from dataclasses import dataclass
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.names import nearest

from .amazon import FORMS
from .negatives import SAMPLERS
from .times import UNITS

REQUIRED = object()


@dataclass(frozen=True)
class Option:
    """One option: its default, what it means, its type, choices or range, and the protocol it belongs to, if to one."""

    default: Any
    help: str
    kind: type = str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 2**63 - 1
    protocol: str | None = None


RAW_FILES = ("reviews", "meta", "input")
"""Options of whichever source that name a raw file."""

SOURCES: dict[str, dict[str, Option]] = {
    "amazon": {
        "reviews": Option(REQUIRED, "raw reviews, one JSON object a line, gzipped or not"),
        "meta": Option(REQUIRED, "raw metadata of the items, gzipped or not"),
        "form": Option("auto", "which of the published forms the files have", choices=("auto", *FORMS)),
    },
    "log": {
        "input": Option(REQUIRED, "the log, .csv with a header line or .parquet"),
        "user": Option(REQUIRED, "column of the user"),
        "item": Option(REQUIRED, "column of the item"),
        "category": Option(REQUIRED, "column of the item's category"),
        "time": Option(REQUIRED, "column of the time"),
        "time_unit": Option(
            None,
            "unit of numeric times; without it the unit is guessed from their range, and years before 1990 and after "
            "2100 are refused",
            choices=tuple(UNITS),
        ),
        "time_format": Option(
            None,
            "form of the times, in strptime's notation, such as %d/%m/%Y; without it times are numbers, days such as "
            "20240131 or ISO 8601",
        ),
        "duplicates": Option(
            "drop",
            "what becomes of rows that equal an earlier one in all columns that are read",
            choices=("drop", "keep"),
        ),
        "label": Option(
            None, "column that is 1 for a click and 0 for an exposure without one, instead of sampled negatives"
        ),
        "request": Option(None, "column that is equal for exposures shown together; needs --label"),
        "side": Option((), "further columns of a behaviour, separated by commas", kind=tuple),
    },
}

COMMON: dict[str, Option] = {
    "protocol": Option(
        "leave_one_out",
        "what is predicted in which split, see protocols",
        choices=("last", "leave_one_out", "time", "window"),
    ),
    "negatives": Option(
        "matched",
        "where sampled negatives come from: the positives of the split, all behaviours, or all items alike",
        choices=tuple(SAMPLERS),
    ),
    "exclude_history": Option(False, "let no sampled negative be an item of the history", kind=bool),
    "ties": Option(
        "random",
        "order of behaviours of one time: random, or that of the file, which can leak",
        choices=("random", "file"),
    ),
    "max_len": Option(
        None,
        "keep the latest MAX_LEN behaviours of a history (default 100, with protocol window 50)",
        kind=int,
        minimum=1,
    ),
    "session_gap": Option(
        1800, "seconds without a behaviour that end a session, for session_history", kind=int, minimum=0
    ),
    "min_history": Option(1, "leave samples with a shorter history out", kind=int, minimum=0),
    "seed": Option(2019, "seed of ties, user splits, negatives and row order", kind=int, minimum=0),
    "skip_bad_lines": Option(
        False,
        "leave broken lines out, such as rows of a wrong number of fields, and say how many, instead of stopping at "
        "the first",
        kind=bool,
    ),
    "folds": Option(10, "cut the users into this many parts", kind=int, minimum=2, protocol="last"),
    "fold": Option(0, "the part for the test, from 0", kind=int, minimum=0, protocol="last"),
    "valid_from": Option(REQUIRED, "first validation time, a date (UTC) or seconds", protocol="time"),
    "test_from": Option(REQUIRED, "first test time, a date (UTC) or seconds", protocol="time"),
    "target_days": Option(49, "days of targets, up to the log's last", kind=int, minimum=3, protocol="window"),
    "history_days": Option(
        14, "days of history before a target", kind=int, minimum=1, maximum=10**9, protocol="window"
    ),
    "valid_days": Option(1, "days for validation, before those of the test", kind=int, minimum=1, protocol="window"),
    "test_days": Option(1, "last days, for the test", kind=int, minimum=1, protocol="window"),
    "format": Option("parquet", "form of the samples", choices=("parquet", "csv", "both")),
    "raw_from": Option(None, "command that gets the raw files, shown when one is missing"),
}


def options_of(source: str) -> dict[str, Option]:
    """All options of a source: "amazon" or "log"."""
    return SOURCES[source] | COMMON


def check_options(given: dict) -> dict:
    """The options with defaults filled in; those of other protocols are left out.

    Raises:
        UserError: an option is unknown (names the nearest), missing, of a wrong value, or of another protocol.
    """
    source = given.get("source")
    if not isinstance(source, str) or source not in SOURCES:
        raise UserError(f"build option source is {source!r}; it must be one of {', '.join(SOURCES)}")
    known = options_of(source)
    for name in given:
        if name != "source" and name not in known:
            near = nearest(name, known) or [", ".join(known)]
            raise UserError(f"unknown build option {name!r} for source {source}; did you mean {near[0]}?")
    protocol = check_value("protocol", COMMON["protocol"], given.get("protocol"))
    checked: dict[str, Any] = {"source": source}
    for name, option in known.items():
        value = given.get(name)
        if option.protocol not in (None, protocol):
            if value is not None:
                raise UserError(f"build option {name} belongs to protocol {option.protocol}; protocol is {protocol}")
            continue
        checked[name] = check_value(name, option, value)
    if checked["max_len"] is None:
        checked["max_len"] = 50 if protocol == "window" else 100
    return checked


def check_value(name: str, option: Option, value: Any) -> Any:
    """The value in its type, or the default for None."""
    if value is None:
        if option.default is REQUIRED:
            raise UserError(f"build option {name} is missing: {option.help}")
        return option.default
    if option.choices:
        if str(value) not in option.choices:
            raise UserError(f"build option {name} is {value!r}; it must be one of {', '.join(option.choices)}")
        return str(value)
    if option.kind is tuple:
        value = value.split(",") if isinstance(value, str) else value
        if not isinstance(value, (list, tuple)):
            raise UserError(f"build option {name} is {value!r}; it must be a list")
        return tuple(str(part).strip() for part in value)
    if option.kind is str:
        if isinstance(value, (list, tuple, dict)):
            raise UserError(f"build option {name} is {value!r}; it must be one value")
        return str(value)
    if option.kind is bool and not isinstance(value, bool):
        raise UserError(f"build option {name} is {value!r}; it must be true or false")
    if option.kind is int and (not isinstance(value, int) or isinstance(value, bool) or value < option.minimum):
        raise UserError(f"build option {name} is {value!r}; it must be a whole number, {option.minimum} or more")
    if option.kind is int and value > option.maximum:
        raise UserError(f"build option {name} is {value!r}; it must be a whole number, {option.maximum} or less")
    return value
