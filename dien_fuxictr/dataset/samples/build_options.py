"""Options of a build: keys of a `build:` section and flags of `build_dataset.py`."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.key_types import Contract, Help, Whole
from dien_fuxictr.common.suggestions import nearest

RAW_FILES = ("reviews", "meta", "input", "items")
"""Options of whichever source that name a raw file."""
TABLES = ("input", "items")
"""Those of them that may name several: a folder or a pattern."""
REQUIRED = ""
"""Marks an option without a default: a build of its source and protocol needs the option."""
_BY_PROTOCOL: Any = None


def _as_text(value: Any) -> Any:
    """Return a number (a column's name, a year) or a date as text.

    YAML parses these as numbers and dates.
    """
    return str(value) if isinstance(value, (int, dt.date)) and not isinstance(value, bool) else value


def _as_names(value: Any) -> Any:
    names = value.split(",") if isinstance(value, str) else value
    return tuple(str(_as_text(name)).strip() for name in names) if isinstance(names, (list, tuple)) else value


Source = Literal["amazon", "log"]
_TEXT = BeforeValidator(_as_text)
_File = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, Path) else value)]
_Text = Annotated[str, _TEXT]
_Names = Annotated[tuple[str, ...], "a list of names, or names separated by commas", BeforeValidator(_as_names)]
_Count = Annotated[int, Whole(1)]
_Number = Annotated[int, Whole(0)]


@dataclass(frozen=True)
class Meaning(Help):
    """Meaning of an option, and the source and protocol that have it; None: all."""

    source: str | None = None
    protocol: str | None = None


_amazon, _log = (partial(Meaning, source=name) for name in get_args(Source))
_last, _leave_one_out, _time, _window = (
    partial(Meaning, protocol=name) for name in ("last", "leave_one_out", "time", "window")
)


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Options of a build; options that its source or protocol lacks have defaults."""

    source: Source
    reviews: Annotated[_File, _amazon("raw reviews, one JSON object per line, may be gzipped")] = REQUIRED
    meta: Annotated[_File, _amazon("raw metadata of the items, may be gzipped")] = REQUIRED
    form: Annotated[
        Literal["auto", "2014", "2018", "2023"], _TEXT, _amazon("published form of the files; auto: detect it")
    ] = "auto"
    input: Annotated[
        _File,
        _log(
            "the log: a file .csv or .csv.gz with a header line, .parquet, or RecBole's .inter; a folder "
            "of .parquet files, in which folders such as day=2024-01-31/ are columns; or a pattern such "
            "as 'log/*.csv.gz' (quoted)"
        ),
    ] = REQUIRED
    user: Annotated[_Text, _log("column of the user")] = REQUIRED
    item: Annotated[_Text, _log("column of the item")] = REQUIRED
    category: Annotated[_Text | None, _log("column of the item's category; without it samples have no categories")] = (
        None
    )
    time: Annotated[_Text, _log("column of the time")] = REQUIRED
    time_unit: Annotated[
        Literal["s", "ms", "us", "ns"] | None,
        _log("unit of numeric times; default: guess it from their range, and refuse years before 1990 and after 2100"),
    ] = None
    time_format: Annotated[
        _Text | None,
        _log(
            "format of the times, in strptime's notation, such as %d/%m/%Y; default: numbers, days such "
            "as 20240131, or ISO 8601"
        ),
    ] = None
    duplicates: Annotated[
        Literal["drop", "keep"], _log("drop or keep rows that equal an earlier row in all columns that are read")
    ] = "drop"
    label: Annotated[
        _Text | None,
        _log("column that is 1 for a click and 0 for an exposure without one, instead of sampled negatives"),
    ] = None
    request: Annotated[_Text | None, _log("column that is equal for exposures shown together; needs --label")] = None
    target: Annotated[
        _Text | None,
        _log("column that is 1 for rows that become samples and 0 for rows that only occur in histories (default all)"),
    ] = None
    side: Annotated[
        _Names,
        _log(
            "columns of further properties of the item, such as brand, separated by commas; with sampled "
            "negatives an item has one value of each, the most frequent in the log"
        ),
    ] = ()
    side_varies: Annotated[
        _Names,
        _log(
            "columns of --side and --category whose value changes over time, such as price: a behaviour "
            "has its own value, a sample the item's last value before its time"
        ),
    ] = ()
    context: Annotated[
        _Names,
        _log(
            "columns of the user or the request, such as device, separated by commas: features of the "
            "sample, equal for a positive and its sampled negative"
        ),
    ] = ()
    context_history: Annotated[_Names, _log("columns of --context that histories contain, too, as <name>_history")] = ()
    items: Annotated[
        _File | None,
        _log(
            "file with one row per item, in a form of --input or RecBole's .item, with the item's column "
            "and the columns of --category and --side that the log lacks"
        ),
    ] = None
    protocol: Annotated[
        Literal["last", "leave_one_out", "time", "window"],
        Meaning("rows that are predicted in each split, see protocols"),
    ] = "leave_one_out"
    negatives: Annotated[
        Literal["matched", "popularity", "uniform"],
        Meaning(
            "source of sampled negatives: the positives of the split, all behaviours, or all items with equal"
            " probability"
        ),
    ] = "matched"
    exclude_history: Annotated[bool, Meaning("exclude items of the history from the sampled negatives")] = False
    ties: Annotated[
        Literal["random", "file"],
        Meaning("order of behaviours with equal times: random, or the order of the file, which can leak"),
    ] = "random"
    history_order: Annotated[
        Literal["time", "shuffled"],
        Meaning(
            "order of the behaviours of a history: by time, or shuffled per history, to measure the gain "
            "from order; rows, labels and negatives do not change"
        ),
    ] = "time"
    max_len: Annotated[
        _Count, Meaning("keep the most recent MAX_LEN behaviours of a history (default 100, with protocol window 50)")
    ] = _BY_PROTOCOL
    session_gap: Annotated[_Number, Meaning("seconds without a behaviour that end a session, for session_history")] = (
        1800
    )
    min_history: Annotated[_Number, Meaning("leave out samples with a shorter history, in behaviours")] = 1
    seed: Annotated[_Number, Meaning("seed of ties, user splits, negatives and row order")] = 2019
    skip_bad_lines: Annotated[
        bool,
        Meaning(
            "skip broken lines, such as rows with a wrong number of fields, and report their number; "
            "default: stop at the first"
        ),
    ] = False
    test_last: Annotated[
        _Count,
        _leave_one_out(
            "use a user's last TEST_LAST behaviours for the test, and as many before them for validation;"
            " a short history is used for the test first"
        ),
    ] = 1
    targets_per_user: Annotated[
        _Count | None,
        _leave_one_out(
            "number of most recent training behaviours per user that become training rows; validation, "
            "test, vocabularies and the catalogue of behaviours do not change (default all)"
        ),
    ] = None
    folds: Annotated[int, Whole(2), _last("number of parts that the users are split into")] = 10
    fold: Annotated[_Number, _last("number of the part for the test, from 0")] = 0
    valid_from: Annotated[_Text, _time("first validation time, a date (UTC) or seconds")] = REQUIRED
    test_from: Annotated[_Text, _time("first test time, a date (UTC) or seconds")] = REQUIRED
    target_days: Annotated[int, Whole(3), _window("number of days of targets, up to the last day of the log")] = 49
    history_days: Annotated[int, Whole(1, 10**9), _window("number of days of history before a target")] = 14
    valid_days: Annotated[_Count, _window("number of days for validation, before the test")] = 1
    test_days: Annotated[_Count, _window("number of last days, for the test")] = 1
    format: Annotated[
        Literal["parquet", "csv", "both"],
        Meaning(
            "format of the samples; csv joins histories by ^, which no item, category or side value may then contain"
        ),
    ] = "parquet"
    raw_from: Annotated[_Text | None, Meaning("command that downloads the raw files, shown if one is missing")] = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "BuildOptions":
        """Return the options of a `build` section or of flags; None means not given.

        Raises:
            UserError: an option is unknown (the message names the nearest), is missing, has a wrong value, or belongs
                to another protocol.
        """
        given = {name: value for name, value in given.items() if value is not None}
        Contract({"source": [Source]}, ["source"], given).check(given, lambda _: "the build")
        source: Source = given.pop("source")
        known, place = options_of(source), f"the build from source {source}"
        if unknown := _CONTRACTS[source].check(given, lambda _: place):
            near = nearest(unknown[0], known) or [", ".join(known)]
            raise UserError(f"unknown key {unknown[0]!r} in {place}; did you mean {near[0]}?")
        protocol = given.get("protocol", cls.protocol)
        for name, option in known.items():
            if option.meaning.protocol not in (None, protocol):
                if name in given:
                    raise UserError(
                        f"{name} in {place} cannot be combined with protocol {protocol}; it belongs to protocol "
                        f"{option.meaning.protocol}"
                    )
            elif option.default == REQUIRED and name not in given:
                raise UserError(f"{name} is missing in {place}: {option.meaning.text}")
        given.setdefault("max_len", 50 if protocol == "window" else 100)
        options = cls(source=source, **given)
        options._check_roles(place)
        return options

    def _check_roles(self, place: str) -> None:
        """Raise UserError if the options that name columns contradict each other."""
        for name in self.context:
            if name in self.side:
                raise UserError(
                    f"column {name!r} cannot be in both side and context of {place}; side describes the item, context "
                    "the user or the request"
                )
        for option, names, allowed, within in (
            ("side_varies", self.side_varies, (*self.side, self.category), "side or the category"),
            ("context_history", self.context_history, self.context, "context"),
        ):
            for name in names:
                if name not in allowed:
                    raise UserError(f"column {name!r} in {option} of {place} must be named in {within}, too")

    @property
    def raw(self) -> dict[str, str]:
        """Return option -> the raw file, folder or pattern that it names."""
        return {name: value for name in RAW_FILES if (value := getattr(self, name))}

    def stated(self) -> dict[str, Any]:
        """Return the options of the source and the protocol, as in samples.json."""
        known = options_of(self.source).items()
        names = ["source", *(name for name, option in known if option.meaning.protocol in (None, self.protocol))]
        return {name: getattr(self, name) for name in names}


class Option(NamedTuple):
    """Option as in YAML and flags: its type (None: no type), default and meaning."""

    kind: Any
    default: Any
    meaning: Meaning

    @property
    def is_flag(self) -> bool:
        """Return whether the option is True or False."""
        return get_args(self.kind)[0] is bool

    @property
    def is_number(self) -> bool:
        """Return whether the option is a whole number."""
        return get_args(self.kind)[0] is int

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the allowed values, if they are listed."""
        bare = get_args(self.kind)[0]
        return get_args(bare) if get_origin(bare) is Literal else ()


def _option(name: str, hint: Any) -> Option:
    kind, *notes = get_args(hint)
    if NoneType in get_args(kind):
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
    return Option(Annotated[(kind, *notes)], getattr(BuildOptions, name), notes[-1])


_HINTS = get_type_hints(BuildOptions, include_extras=True)
_OPTIONS = {name: _option(name, _HINTS[name]) for name in _HINTS if name != "source"}


def options_of(source: str) -> dict[str, Option]:
    """Return all options of a source: "amazon" or "log"."""
    return {name: option for name, option in _OPTIONS.items() if option.meaning.source in (None, source)}


_CONTRACTS = {
    source: Contract({name: [option.kind] for name, option in options_of(source).items()})
    for source in get_args(Source)
}
