"""Make samples of a log: order it, choose targets, add histories and labels.

The log is read twice, in parts, and sorted for some users at a time. What depends on all users, or on all rows of an
item, is drawn or joined afterwards, in arrays that need not be in memory. The draws do not depend on the parts.
"""

import itertools
import logging
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from . import protocols, sample_negatives
from .amazon import UNKNOWN
from .arrays import Arrays, chunks
from .build_options import BuildOptions
from .coded_samples import AT_ONCE, TOKENS, CodedSamples
from .columns import latest_before, require_property, roles_of, say_changed
from .distinct_values import Numbers, Words
from .protocols import DAY, SPLITS, UNUSED
from .ranges import Occurrences, RangeReader, coverage, members
from .samples import LEFT_OUT, Samples

STREAMS = {
    name: number for number, name in enumerate(("ties", "users", "negatives", "exposures", "order", "histories"))
}
CYCLE = 10
"""Time tokens count up to it and begin again: neighbours differ, and training rows have seen every token."""
SPAN = ["history_start", "history_length"]
FLAGS = ("label", "target")
"""Columns of a log that samples do not have."""

Batches = Callable[[], Iterator[tuple[pl.DataFrame, pl.Series]]]
"""Reads the log again: checked rows, and a number of each that equal rows share."""


def make_samples(log: pl.DataFrame, options: BuildOptions) -> Samples:
    """Return the samples of a log as tables.

    Without labels each row is a behaviour, the sample of a behaviour is positive and gets one sampled negative of the
    same history. With labels (1 clicked, 0 not) the exposures themselves are the samples, and a history holds the
    user's clicks before the request began.

    Args:
        log: user_id, item_id, cate_id where there are categories (String), time (Int64), any side and context columns
            (String) and, if known, label, target (Int8) and request (String), in file order.
        options: options of the build.

    Raises:
        UserError: a split is left without samples, an option does not fit the data, or a side column is not a property
            of the item (see `require_property`).
    """
    samples = code_samples(whole(log), options, Arrays(), log.height)
    return samples.as_frames(
        {"options": options.stated(), "counts": samples.counts()}, order_of_files(samples, options)
    )


def order_of_files(samples: CodedSamples, options: BuildOptions) -> Callable[[str], np.ndarray]:
    """Return the function that orders the samples of a split as in its file.

    See `shuffled_rows`.
    """
    return lambda split: samples.shuffled_rows(split, stream(options, "order", SPLITS.index(split)))


def whole(log: pl.DataFrame) -> Batches:
    """Return a reader of a log in memory; equal rows of it stay."""
    return lambda: iter([(log, pl.Series(np.arange(log.height, dtype=np.uint64)))])


def code_samples(batches: Batches, options: BuildOptions, arrays: Arrays, part_rows: int) -> CodedSamples:
    """Make samples of a log, as `make_samples` does.

    Args:
        batches: reads the log.
        options: options of the build.
        arrays: empty.
        part_rows: approximate number of rows that are sorted at once.
    """
    samples, span = code_table(batches, options, arrays, part_rows)
    _fill_splits(samples, span, options)
    for name in samples.roles.varying if not samples.has_labels else ():
        for split in (*SPLITS, LEFT_OUT):
            _add_varying(samples, name, split, -(-samples.rows // part_rows))
    if options.history_order == "shuffled":
        _shuffle(samples, stream(options, "histories"))
    return samples


def code_table(
    batches: Batches, options: BuildOptions, arrays: Arrays, part_rows: int
) -> tuple[CodedSamples, tuple[int, int]]:
    """Sort a log and give each row its history and split, like `code_samples`.

    Returns:
        Samples without negatives, and the first and the last time of the log.
    """
    words, columns, rows = _words(batches)
    roles = roles_of(columns, options)
    tokens = pl.Series([str(number) for number in range(1, CYCLE + 1)])
    samples = CodedSamples(arrays, roles, words | dict.fromkeys(TOKENS, tokens), "label" in columns)
    for name in () if samples.has_labels else roles.varying:  # a sample may have a value that no row has
        if UNKNOWN not in words[name]:
            samples.words[name] = pl.concat([words[name], pl.Series([UNKNOWN])]).sort()
    coded = [name for name in columns if name in words]
    flags = [(name, "i1") for name in FLAGS if name in columns]
    record = np.dtype(
        [("row_history", "i8"), ("time", "i8"), ("hash_history", "u8"), *((name, "i4") for name in coded), *flags]
    )
    parts = -(-rows // part_rows)
    span = _cut(batches, samples.words, record, parts, arrays)
    kept = _drop_repeated(record, parts, rows, options.duplicates, arrays)
    total = rows if kept is None else int(kept[-1])
    of_item = {} if samples.has_labels else _values_of_items(samples, record, parts, total, options)
    tie = _ties(total, options, arrays)

    def sorted_part(part: int) -> pl.DataFrame:
        log = np.array(arrays.open(f"part{part}_history", record))
        for name, values in of_item.items():
            log[name] = values[log["item_id"]]
        row = log["row_history"] if kept is None else kept[log["row_history"]] - 1
        return sort_log(pl.DataFrame({name: log[name] for name in ("time", *coded, *dict(flags))} | {"tie": tie[row]}))

    latest = span[1]
    if options.protocol == "window" and "request" in coded:
        latest = max(int(sorted_part(part)["event_time"].to_numpy().max()) for part in range(parts))
    exposures = stream(options, "exposures")
    for part in range(parts):
        _add_part(samples, sorted_part(part), latest, exposures, options)
        arrays.remove(f"part{part}_history")
    arrays.remove("tie", "kept_history")
    samples.words.pop("request", None)
    return samples, span


def stream(options: BuildOptions, name: str, number: int = 0) -> np.random.Generator:
    """Return random numbers for one purpose.

    They do not depend on what is drawn for other purposes.
    """
    return np.random.default_rng((options.seed, STREAMS[name], number))


def _words(batches: Batches) -> tuple[dict[str, pl.Series], list[str], int]:
    """Return the distinct values of each column, the columns, and the number of rows."""
    words: dict[str, Words] = {}
    columns: list[str] = []
    rows = 0
    for log, _ in batches():
        columns, rows = log.columns, rows + log.height
        for name in (name for name in columns if name not in ("time", *FLAGS)):
            words.setdefault(name, Words()).add(log[name])
    return {name: of_column.sorted() for name, of_column in words.items()}, columns, rows


def _cut(
    batches: Batches, words: dict[str, pl.Series], record: np.dtype, parts: int, arrays: Arrays
) -> tuple[int, int]:
    """Write the rows into arrays cut by user; returns the first and the last time."""
    numbers = {name: Numbers(words[name]) for name in record.names or () if name in words}
    users, row, moments = len(words["user_id"]), 0, []
    for log, equal in batches():
        rows = np.empty(log.height, record)
        rows["row_history"] = np.arange(row, row + log.height)
        rows["time"], rows["hash_history"] = log["time"].to_numpy(), equal.to_numpy()
        for name in record.names or ():
            if name in numbers:
                rows[name] = numbers[name].of(log[name])
            elif name in FLAGS:
                rows[name] = log[name].to_numpy()
        row += log.height
        moments += [int(rows["time"].min()), int(rows["time"].max())]
        part = rows["user_id"].astype(np.int64) * parts // users
        order = np.argsort(part, kind="stable")
        found, first = np.unique(part[order], return_index=True)
        for number, of_part in zip(found, np.split(rows[order], first[1:]), strict=True):
            arrays.append(f"part{number}_history", of_part)
    return min(moments), max(moments)


def _drop_repeated(record: np.dtype, parts: int, rows: int, duplicates: str, arrays: Arrays) -> np.ndarray | None:
    """Remove rows that equal an earlier one.

    Returns:
        How many rows up to each are kept; None if all are.
    """
    kept = arrays.new("kept_history", np.int64, rows)
    dropped = 0
    for part in range(parts):
        log = arrays.open(f"part{part}_history", record)
        first = np.zeros(len(log), bool)
        first[np.unique(log["hash_history"], return_index=True)[1]] = True
        dropped += np.count_nonzero(~first)
        if duplicates == "keep":
            continue
        kept[log["row_history"]] = first
        if not first.all():
            few = np.array(log[first])
            arrays.remove(f"part{part}_history")
            arrays.append(f"part{part}_history", few)
    if dropped:
        treated = "Dropped" if duplicates == "drop" else "Kept"
        logging.info(f"{treated} {dropped} rows that repeat an earlier row in all columns read", extra={"note": True})
    if not dropped or duplicates == "keep":
        return None
    total = 0
    for part in chunks(rows, AT_ONCE):
        kept[part] = total + np.cumsum(kept[part])
        total = int(kept[part.stop - 1])
    return kept


def _values_of_items(
    samples: CodedSamples, record: np.dtype, parts: int, rows: int, options: BuildOptions
) -> dict[str, np.ndarray]:
    """Return the usual value of each item, (V,), per property that does not vary.

    It is the index of the most frequent known value.
    """
    found, changed = {}, {}
    for name in (name for name in samples.roles.properties if name not in samples.roles.varying):
        words = samples.words[name]
        pairs = pl.DataFrame(schema={"item": pl.Int32, "value": pl.Int32, "len": pl.UInt32})
        for part in range(parts):
            log = samples.arrays.open(f"part{part}_history", record)
            counted = pl.DataFrame({"item": log["item_id"], "value": log[name]}).group_by("item", "value").len()
            pairs = pl.concat([pairs, counted]).group_by("item", "value").agg(pl.col("len").sum())
        known = words != UNKNOWN
        is_known = pairs["value"].is_in(known.arg_true().cast(pl.Int32).implode())
        best = (
            pairs.filter(is_known)
            .sort("len", "value", descending=[True, False])
            .unique("item", keep="first", maintain_order=True)
        )
        differing = int(pairs.filter(is_known)["len"].sum()) - int(best["len"].sum())
        require_property(name, differing / rows, options)
        missing = words.index_of(UNKNOWN)
        values = np.full(len(samples.words["item_id"]), -1 if missing is None else missing, np.int32)
        values[best["item"].to_numpy()] = best["value"].to_numpy()
        changed[name] = int(pairs.filter(pairs["value"].to_numpy() != values[pairs["item"].to_numpy()])["len"].sum())
        found[name] = values
    say_changed(changed, options)
    return found


def _ties(rows: int, options: BuildOptions, arrays: Arrays) -> np.ndarray:
    tie = arrays.new("tie", np.int64, rows)
    for part in chunks(rows, AT_ONCE):
        tie[part] = np.arange(part.start, part.stop)
    if options.ties == "random":
        stream(options, "ties").shuffle(tie)
    return tie


def sort_log(log: pl.DataFrame) -> pl.DataFrame:
    """Return a log sorted by user and time, with the start of events, `event_time`.

    Rows of equal user and time are in the order of `tie`: random, or that of the file. The review files are sorted by
    item: a model that sees tied reviews in file order can tell the next item by its id.
    """
    if "request" not in log.columns:
        return log.sort("user_id", "time", "tie").drop("tie").with_columns(event_time="time")
    request = ["user_id", "request"]
    return (
        log.with_columns(event_time=pl.col("time").min().over(request), event_tie=pl.col("tie").min().over(request))
        .sort("user_id", "event_time", "event_tie", "time", "tie")
        .drop("tie", "event_tie")
    )


def _add_part(
    samples: CodedSamples, log: pl.DataFrame, latest: int, exposures: np.random.Generator, options: BuildOptions
) -> None:
    """Write what can be said of the rows of some users, sorted, without the others."""
    arrays, base, first = samples.arrays, samples.rows, samples.behaviours
    clicked = np.arange(log.height)
    if samples.has_labels:
        # The clicks of interleaved requests need not be in the order of the requests.
        clicks = log.select("user_id", "time", "label", row=pl.int_range(pl.len())).filter(pl.col("label") == 1)
        clicked = clicks.sort("user_id", "time", "row")["row"].to_numpy()
    behaviours = log[clicked]
    user, event, events = event_places(log)
    start, length = histories(log, behaviours, options)
    split = _splits(log, event, events, latest, len(samples.words["user_id"]), options)
    split = np.where(length >= options.min_history, split, UNUSED)
    if "target" in log.columns:
        split = np.where(log["target"].to_numpy() == 1, split, UNUSED)
    for name in ("user_id", *samples.roles.of_samples):
        arrays.append(name, log[name].to_numpy())
    arrays.append("time", log["time"].to_numpy())
    tokens = time_tokens(behaviours, options.session_gap)
    for name, column in TOKENS.items():
        token = np.zeros(log.height, np.int8)
        token[clicked] = (tokens[column].cast(pl.Int8) - 1).to_numpy()
        arrays.append(name, token)
    arrays.append("history_length", length.astype(np.int32))
    if samples.has_labels:
        arrays.append("label", log["label"].to_numpy())
        arrays.append("history_start", first + start)
        arrays.append("behaviour_history", base + clicked)
        chosen = _unclicked(log, clicked, user, exposures)
        arrays.append("unclicked_history", np.where(chosen >= 0, base + chosen, -1))
    for number, name in enumerate(SPLITS):
        arrays.append(f"rows_{name}", base + np.flatnonzero(split == number))
    trained = split == SPLITS.index("train")
    if options.targets_per_user:
        arrays.append("rank_history", target_ranks(event, events, options.test_last)[trained])
    held = coverage(start[trained], length[trained], len(clicked))
    arrays.append("used_history", held > 0)
    samples.rows, samples.behaviours = base + log.height, first + len(clicked)
    place = np.arange(first, samples.behaviours)
    weights = held if samples.has_labels else 2 * held
    for history, name in samples.sources.items():
        codes = samples.codes_at(history, place)
        size = len(samples.words[name]) + 1
        counted = np.bincount(np.where(codes < 0, size - 1, codes), weights=weights, minlength=size).astype(np.int64)
        samples.history_counts[history] = samples.history_counts.get(history, 0) + counted


def _splits(
    log: pl.DataFrame, event: np.ndarray, events: np.ndarray, latest: int, users: int, options: BuildOptions
) -> np.ndarray:
    """Return the split of each row of some users, by the protocol.

    Args:
        log: their rows, sorted.
        event: places of the events, see `event_places`.
        events: numbers of the user's events, see `event_places`.
        latest: time of the log's last event.
        users: number of users of the whole log.
        options: options of the build.
    """
    protocol, time = options.protocol, log["event_time"].to_numpy()
    if protocol == "last":
        every = np.arange(users)
        rng = stream(options, "users")
        of_user = protocols.last(every, 0 * every, 0 * every + 1, options.folds, options.fold, rng)
        return np.where(event == events - 1, of_user[log["user_id"].to_numpy()], UNUSED)
    if protocol == "leave_one_out":
        return protocols.leave_one_out(event, events, options.test_last)
    if protocol == "time":
        return protocols.by_time(time, *protocols.cut_offs(options))
    days = options.target_days, options.valid_days, options.test_days
    return protocols.window(np.append(time, latest), *days)[:-1]


def _unclicked(log: pl.DataFrame, clicked: np.ndarray, user: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the row that each behaviour was preferred to, -1 where there is none."""
    event = event_numbers(log)[1] if "request" in log.columns else None
    label = log["label"].to_numpy() == 1
    item = log["item_id"].to_numpy().astype(np.int64)
    return sample_negatives.behaviour_negatives(clicked, item, label, user, event, rng)


def event_numbers(log: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of user and event of each row, from 0 without gaps.

    The rows are those of a sorted log.
    """
    event = pl.struct("user_id", "request").rle_id() if "request" in log.columns else pl.int_range(pl.len())
    numbers = log.select(user=pl.col("user_id").rle_id().cast(pl.Int64), event=event.cast(pl.Int64))
    return numbers["user"].to_numpy(), numbers["event"].to_numpy()


def event_places(log: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return user, place of the event and number of events for each row.

    The rows are those of a sorted log; places and numbers count the events of the row's user.
    """
    user, number = event_numbers(log)
    first_row, last_row = user_bounds(user)
    first = number[first_row[user]]
    return user, number - first, number[last_row[user]] - first + 1


def user_bounds(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last row of each user."""
    first = np.flatnonzero(np.diff(user, prepend=-1))
    return first, np.append(first[1:], len(user)) - 1


def histories(log: pl.DataFrame, behaviours: pl.DataFrame, options: BuildOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return start and length of each row's history, as a range of the behaviours.

    The rows are those of a sorted log.
    """
    user, _ = event_numbers(log)
    time = log["event_time"].to_numpy()
    if "label" not in log.columns:
        return preceding(behaviours, user, user, time, options, end=np.arange(log.height))
    numbers = log.select("user_id", number=user).unique("user_id")
    behaviour_user = behaviours.join(numbers, on="user_id", how="left", maintain_order="left")["number"].to_numpy()
    return preceding(behaviours, behaviour_user, user, time, options)


def preceding(
    behaviours: pl.DataFrame,
    behaviour_user: np.ndarray,
    user: np.ndarray,
    time: np.ndarray,
    options: BuildOptions,
    end: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return start and length of the history of each user at each time.

    A history is a range of the behaviours.

    Args:
        behaviours: (M,) sorted by user and time.
        behaviour_user: (M,) number of its user, ascending.
        user: (N,) numbers of users.
        time: (N,) in seconds.
        options: options of the build.
        end: (N,) one beyond the last behaviour of the history; None: the history ends before the time.
    """
    moments = np.unique(behaviours["time"].to_numpy())

    def key(users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Return a number that ascends with user and time, rounded up to a moment."""
        return users * (len(moments) + 1) + np.searchsorted(moments, times)

    keys = key(behaviour_user, behaviours["time"].to_numpy())
    first = earliest = np.searchsorted(behaviour_user, user)
    end = np.searchsorted(keys, key(user, time)) if end is None else end
    if options.protocol == "window":
        earliest = np.searchsorted(keys, key(user, time - options.history_days * DAY))
    return protocols.history_ranges(first, end, earliest, options.max_len)


def _fill_splits(samples: CodedSamples, span: tuple[int, int], options: BuildOptions) -> None:
    """Draw the negatives of each split, and apply `targets_per_user` in training."""
    arrays = samples.arrays
    many = options.targets_per_user or 0
    for number, name in enumerate(SPLITS):
        rows = samples.positives(name)
        if not len(rows):
            raise protocols.empty_split(name, len(samples.words["user_id"]), samples.rows, span, options)
        rank = arrays.open("rank_history", np.int64) if many and name == "train" else None
        drawn = None if samples.has_labels else _negatives(samples, name, number, rank, options)
        for part in chunks(len(rows), AT_ONCE):
            if rank is None:
                if drawn is not None:
                    arrays.append(f"negative_{name}", drawn[part])
                continue
            late = rank[part] <= many
            for kind, kept in (("late", late), (LEFT_OUT, ~late)):
                arrays.append(f"rows_{kind}", rows[part][kept])
                if drawn is not None:
                    arrays.append(f"negative_{kind}", drawn[part][kept])
        for what in ("rows", "negative") if rank is not None else ():
            arrays.rename(f"{what}_late", f"{what}_train")
    arrays.remove("rank_history")


def _negatives(
    samples: CodedSamples, split: str, number: int, rank: np.ndarray | None, options: BuildOptions
) -> np.ndarray:
    """Return the row that is the negative of each positive of a split."""
    arrays, item, rows = samples.arrays, samples.column("item_id"), samples.positives(split)
    start, length = (arrays.scratch(len(rows)) for _ in range(2))
    for part in chunks(len(rows), AT_ONCE):
        start[part], length[part] = samples.spans(rows[part])
    within = None
    if options.exclude_history:
        within = RangeReader(item) if arrays.on_disk else Occurrences(item.astype(np.int64))
    forbidden = sample_negatives.Forbidden(item, rows, start, length, within)
    if rank is None or options.targets_per_user is None or options.negatives != "matched":
        sampler = sample_negatives.SAMPLERS[options.negatives]
        return sampler(forbidden, stream(options, "negatives", number), arrays.scratch)
    strata = arrays.scratch(len(rows))
    for part in chunks(len(rows), AT_ONCE):
        strata[part] = rank_strata(rank[part], options.targets_per_user)
    return sample_negatives.matched_within(
        strata, forbidden, lambda stratum: stream(options, "negatives", len(SPLITS) + stratum), arrays.scratch
    )


def _add_varying(samples: CodedSamples, name: str, split: str, parts: int) -> None:
    """Write the last value of a property before each sample of a split.

    The samples are processed for some items at a time.
    """
    arrays, item, codes = samples.arrays, samples.column("item_id"), samples.column(name)
    time, size = arrays.open("time", np.int64), samples.size(split)
    unknown = int(samples.words[name].search_sorted(UNKNOWN))
    found = arrays.new(f"{name}_{split}_history", np.int32, size)
    item_of = arrays.scratch(size)
    for part in chunks(size, AT_ONCE):
        item_of[part] = item[samples.choose(split, np.arange(part.start, part.stop)).target]
    ends = np.linspace(0, len(samples.words["item_id"]), parts + 1).astype(np.int64)
    for first, end in itertools.pairwise(ends):
        sample, row = (_places_between(each, first, end) for each in (item_of, item))
        if not len(sample):
            continue
        log = pl.DataFrame({"item_id": item[row], "time": time[row], name: codes[row]})
        wanted = time[samples.choose(split, sample).row]
        of_item = pl.Series(item_of[sample].astype(np.int32))
        found[sample] = latest_before(log, [name], of_item, wanted, unknown)[name].to_numpy()


def _places_between(values: np.ndarray, first: int, end: int) -> np.ndarray:
    """Return the places of values from `first` to below `end`, found part by part."""
    parts = chunks(len(values), AT_ONCE)
    found = [part.start + np.flatnonzero((values[part] >= first) & (values[part] < end)) for part in parts]
    return np.concatenate([np.zeros(0, np.int64), *found])


def _shuffle(samples: CodedSamples, rng: np.random.Generator) -> None:
    """Shuffle each history, keeping the properties of a behaviour together."""
    arrays = samples.arrays
    splits = [name for name in (*SPLITS, LEFT_OUT) if len(samples.positives(name))]
    keys, done = arrays.scratch(sum(len(samples.positives(name)) for name in splits)), 0
    wide = int(arrays.open("history_length", np.int32).max()) + 1
    for name in splits:
        for part in chunks(len(samples.positives(name)), AT_ONCE):
            start, length = samples.spans(samples.positives(name)[part])
            keys[done : done + len(start)] = start * wide + length
            done += len(start)
    keys.sort()
    distinct, placed, last, total = arrays.scratch(len(keys)), arrays.scratch(len(keys)), -1, 0
    many = 0
    for part in chunks(len(keys), AT_ONCE):
        some = keys[part][np.diff(keys[part], prepend=last) > 0]
        last = keys[part.stop - 1]
        rows, at = shuffled(some // wide, some % wide, rng)
        arrays.append("order_history", rows)
        distinct[many : many + len(some)], placed[many : many + len(some)] = some, total + at
        many, total = many + len(some), total + len(rows)
    moved = arrays.new("moved_history", np.int64, samples.rows)
    for name in splits:
        rows = samples.positives(name)
        for part in chunks(len(rows), AT_ONCE):
            start, length = samples.spans(rows[part])
            moved[rows[part]] = placed[np.searchsorted(distinct[:many], start * wide + length)]
    arrays.remove("history_start")
    arrays.rename("moved_history", "history_start")


def time_tokens(behaviours: pl.DataFrame, session_gap: int) -> pl.DataFrame:
    """Return session and day (UTC) of each behaviour, as numbers from 1 to 10.

    Both are counted per user: 1, 2, ..., 10, 1, 2, ...

    Args:
        behaviours: user_id, time (seconds), sorted by both.
        session_gap: a session ends if the next behaviour is more than this many seconds later.

    Returns:
        `session_history` and `day_history` (String), one row per behaviour.
    """
    ends = {"session_history": pl.col("time").diff() > session_gap, "day_history": (pl.col("time") // DAY).diff() > 0}
    return behaviours.select(
        (end.fill_null(False).cum_sum().over("user_id") % CYCLE + 1).cast(pl.String).alias(name)
        for name, end in ends.items()
    )


def shuffled(start: np.ndarray, length: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct histories one after the other, each shuffled.

    A score that a model keeps on shuffled histories does not come from their order.

    Args:
        start: (N,) first behaviour of each range, ascending.
        length: (N,) number of behaviours of each range.
        rng: random numbers of the orders.

    Returns:
        The members of the ranges, and (N,) the place of each range's first member.
    """
    rows, history = members(start, length)
    return rows[np.lexsort((rng.random(len(rows)), history))], np.cumsum(length) - length


def target_ranks(event: np.ndarray, events: np.ndarray, test_last: int) -> np.ndarray:
    """Return the rank of each training event of leave_one_out, the latest first.

    Ranks are counted per user, from 1.

    Args:
        event: (N,) place of the row's event among all events of its user, from 0.
        events: (N,) number of its user's events.
        test_last: number of events for the test, and for validation.
    """
    return events - event - 2 * test_last


def rank_strata(rank: np.ndarray, targets: int) -> np.ndarray:
    """Return the stratum of each training row, from 0.

    Ranks beyond that of `targets` share a stratum. The rows that `targets_per_user` leaves out are kept separately, for
    the vocabularies and the catalogue of behaviours, which must not depend on the number of targets. Matched negatives
    are permuted within strata of the events' ranks, 1, 2, 3 to 4, 5 to 8 and so on. A row that two numbers of targets
    share then has the same negative in both, and if that number is a power of two, the items of the remaining rows are
    still matched exactly. With a permutation over all rows they would not be, since the latest behaviours are of later
    items than the others.
    """
    return np.ceil(np.log2(np.minimum(rank, 2 * min(targets, int(rank.max()))))).astype(np.int64)
