"""The samples of a log that need not fit in memory: as `sampling.make_samples`, a part of the users at a time.

The draws are the same, number by number: what is permuted over the whole log is permuted in a file. What is made lies
in a folder, an array a file (`disk.py`), a value a row of the sorted log:

- `<column>` (int32) of item_id, cate_id, the side columns, the context and user_id: number of the value in
  `words[column]`, which ascend; session and day tokens likewise, as `session` and `day` (int8).
- `length` (int32): the row's history are so many rows before it.
- `used` (bool): whether the history of a training sample holds the row.
- `rows_<split>` (int64): rows that are positives; `negative_<split>` (int64): the rows that are their negatives.
- `rows_left_out`, `negative_left_out`: likewise, of training rows that `targets_per_user` leaves out.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from . import protocols, sample_negatives
from .amazon import UNKNOWN
from .columns import Roles, require_property, roles_of, say_changed
from .disk import Disk, chunks
from .distinct_values import Numbers, Words
from .protocols import SPLITS, UNUSED
from .ranges import RangeReader, coverage
from .samples import LEFT_OUT
from .sampling import CYCLE, event_places, preceding, rank_strata, stream, target_ranks, time_tokens

PART_ROWS = 200_000
"""About so many rows are sorted at once."""
AT_ONCE = 100_000
"""So many are read at once."""
TOKENS = {"session": "session_history", "day": "day_history"}

Batches = Callable[[], Iterator[tuple[pl.DataFrame, pl.Series]]]
"""Reads the log again: checked rows, and a number of each that equal rows share."""


@dataclass
class FlatSamples:
    """Samples in a folder.

    Attributes:
        disk: the folder.
        roles: of the columns.
        words: column -> its distinct values, ascending.
        rows: of the sorted log.
        history_counts: column -> (V,) how often each word occurs in the histories of training samples.
    """

    disk: Disk
    roles: Roles
    words: dict[str, pl.Series]
    rows: int = 0
    history_counts: dict[str, np.ndarray] = field(default_factory=dict)

    def column(self, name: str) -> np.ndarray:
        """Numbers of the values of a column, (rows,)."""
        return self.disk.open(name, np.int8 if name in TOKENS else np.int32)

    def positives(self, split: str) -> np.ndarray:
        """(P,) rows of the log."""
        return self.disk.open(f"rows_{split}", np.int64)

    def negatives(self, split: str) -> np.ndarray:
        """(P,) rows of the log, one for each of the positives."""
        return self.disk.open(f"negative_{split}", np.int64)

    def is_shared(self, column: str) -> bool:
        """Return whether a negative has its positive's value of a column."""
        return column == "user_id" or column in self.roles.context

    def target_counts(self, column: str, splits: tuple[str, ...]) -> np.ndarray:
        """Return how often each word occurs in the samples of some splits, (V,)."""
        codes, counts = self.column(column), np.zeros(len(self.words[column]), np.int64)
        for split in splits:
            positive = self.positives(split)
            for rows in (positive, positive if self.is_shared(column) else self.negatives(split)):
                for part in chunks(len(rows), AT_ONCE):
                    counts += np.bincount(codes[rows[part]], minlength=len(counts))
        return counts


def make_flat_samples(batches: Batches, options: dict, disk: Disk) -> FlatSamples:
    """Samples of a log of behaviours without labels, by the options of `build_options.py`.

    Args:
        batches: reads the log.
        options: checked.
        disk: an empty folder.

    Raises:
        UserError: as `make_samples`.
    """
    columns = columns_of(options)
    words, rows = _words(batches, columns)
    tokens = pl.Series([str(number) for number in range(1, CYCLE + 1)])
    samples = FlatSamples(disk, roles_of(columns, options), words | dict.fromkeys(TOKENS, tokens))
    parts = -(-rows // PART_ROWS)
    record = np.dtype([("row", "i8"), ("time", "i8"), ("hash", "u8"), *((name, "i4") for name in columns)])
    span = _cut(batches, words, record, parts, disk)
    kept = _drop_repeated(record, parts, rows, options["duplicates"], disk)
    samples.rows = rows if kept is None else int(kept[-1])
    of_item = _values_of_items(samples, record, parts, options)
    tie = _ties(samples.rows, options, disk)
    for part in range(parts):
        log = np.array(disk.open(f"part{part}", record))
        for name, values in of_item.items():
            log[name] = values[log["item_id"]]
        _add_part(samples, log, columns, tie, kept, span[1], options)
        disk.path(f"part{part}").unlink(missing_ok=True)
    for name in ("tie", "kept"):
        disk.path(name).unlink(missing_ok=True)
    _draw_negatives(samples, span, options)
    return samples


def columns_of(options: dict) -> list[str]:
    """Return the columns of values under the builders' names, by a build's checked options."""
    category = ["cate_id"] if options["category"] else []
    return ["user_id", "item_id", *category, *options["side"], *options["context"]]


def _words(batches: Batches, columns: list[str]) -> tuple[dict[str, pl.Series], int]:
    words, rows = {name: Words() for name in columns}, 0
    for log, _ in batches():
        rows += log.height
        for name, of_column in words.items():
            of_column.add(log[name])
    return {name: of_column.sorted() for name, of_column in words.items()}, rows


def _cut(batches: Batches, words: dict[str, pl.Series], record: np.dtype, parts: int, disk: Disk) -> tuple[int, int]:
    """Write the rows into files cut by user; returns the first and the last time."""
    numbers = {name: Numbers(values) for name, values in words.items()}
    users, row, moments = len(words["user_id"]), 0, []
    for log, equal in batches():
        rows = np.empty(log.height, record)
        rows["row"] = np.arange(row, row + log.height)
        rows["time"], rows["hash"] = log["time"].to_numpy(), equal.to_numpy()
        for name, of_column in numbers.items():
            rows[name] = of_column.of(log[name])
        row += log.height
        moments += [int(rows["time"].min()), int(rows["time"].max())]
        part = rows["user_id"].astype(np.int64) * parts // users
        order = np.argsort(part, kind="stable")
        found, first = np.unique(part[order], return_index=True)
        for number, of_part in zip(found, np.split(rows[order], first[1:]), strict=True):
            disk.append(f"part{number}", of_part)
    return min(moments), max(moments)


def _drop_repeated(record: np.dtype, parts: int, rows: int, duplicates: str, disk: Disk) -> np.ndarray | None:
    """Leave rows out that equal an earlier one; returns how many rows up to each are kept, None where all are."""
    kept = disk.new("kept", np.int64, rows)
    dropped = 0
    for part in range(parts):
        log = disk.open(f"part{part}", record)
        first = np.zeros(len(log), bool)
        first[np.unique(log["hash"], return_index=True)[1]] = True
        dropped += np.count_nonzero(~first)
        if duplicates == "keep":
            continue
        kept[log["row"]] = first
        if not first.all():
            few = np.array(log[first])
            disk.path(f"part{part}").unlink()
            disk.append(f"part{part}", few)
    if dropped:
        treated = "Dropped" if duplicates == "drop" else "Kept"
        logging.info(f"{treated} {dropped} rows that equal an earlier one in all columns that are read")
    if not dropped or duplicates == "keep":
        return None
    total = 0
    for part in chunks(rows, AT_ONCE):
        kept[part] = total + np.cumsum(kept[part])
        total = int(kept[part.stop - 1])
    return kept


def _values_of_items(samples: FlatSamples, record: np.dtype, parts: int, options: dict) -> dict[str, np.ndarray]:
    """As `with_one_value`: property -> (V,) number of the commonest known value of each item."""
    found, changed = {}, {}
    for name in samples.roles.properties:
        words = samples.words[name]
        pairs = pl.DataFrame(schema={"item": pl.Int32, "value": pl.Int32, "len": pl.UInt32})
        for part in range(parts):
            log = samples.disk.open(f"part{part}", record)
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
        require_property(name, differing / samples.rows, options)
        missing = words.index_of(UNKNOWN)
        values = np.full(len(samples.words["item_id"]), -1 if missing is None else missing, np.int32)
        values[best["item"].to_numpy()] = best["value"].to_numpy()
        changed[name] = int(pairs.filter(pairs["value"].to_numpy() != values[pairs["item"].to_numpy()])["len"].sum())
        found[name] = values
    say_changed(changed, options)
    return found


def _ties(rows: int, options: dict, disk: Disk) -> np.ndarray:
    tie = disk.new("tie", np.int64, rows)
    for part in chunks(rows, AT_ONCE):
        tie[part] = np.arange(part.start, part.stop)
    if options["ties"] == "random":
        stream(options, "ties").shuffle(tie)
    return tie


def _add_part(
    samples: FlatSamples,
    log: np.ndarray,
    columns: list[str],
    tie: np.ndarray,
    kept: np.ndarray | None,
    latest: int,
    options: dict,
) -> None:
    """Sort the users of a part, and write what can be said of their rows without the others."""
    disk, base = samples.disk, len(samples.column("item_id"))
    row = log["row"] if kept is None else kept[log["row"]] - 1
    log = log[np.lexsort((tie[row], log["time"], log["user_id"]))]
    user, time = log["user_id"].astype(np.int64), log["time"]
    frame = pl.DataFrame({"user_id": user, "time": time, "event_time": time})
    own, event, events = event_places(frame)
    start, length = preceding(frame, own, own, time, options, end=np.arange(len(log)))
    split = _splits(user, event, events, time, latest, len(samples.words["user_id"]), options)
    split = np.where(length >= options["min_history"], split, UNUSED)
    for name in columns:
        disk.append(name, log[name])
    tokens = time_tokens(frame, options["session_gap"])
    for name, column in TOKENS.items():
        disk.append(name, (tokens[column].cast(pl.Int8) - 1).to_numpy())
    disk.append("length", length.astype(np.int32))
    for number, name in enumerate(SPLITS):
        disk.append(f"rows_{name}", base + np.flatnonzero(split == number))
    trained = split == SPLITS.index("train")
    if options.get("targets_per_user"):
        disk.append("rank", target_ranks(event, events, options["test_last"])[trained])
    times = 2 * coverage(start[trained], length[trained], len(log))
    disk.append("used", times > 0)
    codes = {name: log[name] for name in columns} | {name: samples.column(name)[base:] for name in TOKENS}
    for name, values in codes.items():
        counted = np.bincount(values, weights=times, minlength=len(samples.words[name])).astype(np.int64)
        samples.history_counts[name] = samples.history_counts.get(name, 0) + counted


def _splits(
    user: np.ndarray,
    event: np.ndarray,
    events: np.ndarray,
    time: np.ndarray,
    latest: int,
    users: int,
    options: dict,
) -> np.ndarray:
    """As `assign_splits`, for some of the users."""
    protocol = options["protocol"]
    if protocol == "last":
        every = np.arange(users)
        rng = stream(options, "users")
        of_user = protocols.last(
            every, np.zeros_like(every), np.ones_like(every), options["folds"], options["fold"], rng
        )
        return np.where(event == events - 1, of_user[user], UNUSED)
    if protocol == "leave_one_out":
        return protocols.leave_one_out(event, events, options["test_last"])
    if protocol == "time":
        return protocols.by_time(time, *protocols.cut_offs(options))
    days = options["target_days"], options["valid_days"], options["test_days"]
    return protocols.window(np.append(time, latest), *days)[:-1]


def _draw_negatives(samples: FlatSamples, span: tuple[int, int], options: dict) -> None:
    disk, item = samples.disk, samples.column("item_id")
    lengths = disk.open("length", np.int32)
    many = options.get("targets_per_user") or 0
    for number, name in enumerate(SPLITS):
        rows = samples.positives(name)
        if not len(rows):
            raise protocols.empty_split(name, len(samples.words["user_id"]), samples.rows, span, options)
        length, start = (disk.scratch(len(rows)) for _ in range(2))
        for part in chunks(len(rows), AT_ONCE):
            length[part] = lengths[rows[part]]
            start[part] = rows[part] - length[part]
        histories = RangeReader(item) if options["exclude_history"] else None
        forbidden = sample_negatives.Forbidden(item, rows, start, length, histories)
        rank = disk.open("rank", np.int64) if many and name == "train" else None
        if rank is not None and options["negatives"] == "matched":
            strata = disk.new("strata", np.int8, len(rows))
            for part in chunks(len(rows), AT_ONCE):
                strata[part] = rank_strata(rank[part], many)
            drawn = sample_negatives.matched_within(
                strata,
                forbidden,
                lambda stratum: stream(options, "negatives", len(SPLITS) + stratum),
                disk.scratch,
            )
        else:
            sampler = sample_negatives.SAMPLERS[options["negatives"]]
            drawn = sampler(forbidden, stream(options, "negatives", number), disk.scratch)
        for part in chunks(len(rows), AT_ONCE):
            if rank is None:
                disk.append(f"negative_{name}", drawn[part])
                continue
            late = rank[part] <= many
            for kind, kept in (("late", late), (LEFT_OUT, ~late)):
                disk.append(f"rows_{kind}", rows[part][kept])
                disk.append(f"negative_{kind}", drawn[part][kept])
        if rank is not None:
            for what in ("rows", "negative"):
                disk.path(f"{what}_late").rename(disk.path(f"{what}_train"))
