"""From a log to samples: order it, choose what is predicted, give each sample its history and a label."""

import numpy as np
import polars as pl

from . import protocols, sample_negatives
from .columns import Roles, history_of, latest_before, roles_of, with_one_value
from .protocols import DAY, SPLITS, UNUSED
from .ranges import members
from .samples import Samples

STREAMS = {
    name: number for number, name in enumerate(("ties", "users", "negatives", "exposures", "order", "histories"))
}
CYCLE = 10
"""Time tokens count up to it and begin again: neighbours differ, and training rows have seen every token."""
SPAN = ["history_start", "history_length"]


def make_samples(log: pl.DataFrame, options: dict) -> Samples:
    """Samples of a log, by the options of `build_options.py`.

    Without labels each row is a behaviour, the sample of a behaviour is positive and gets one sampled negative of the
    same history. With labels (1 clicked, 0 not) the exposures themselves are the samples, and a history holds the
    user's clicks before the request began.

    Args:
        log: user_id, item_id, cate_id where there are categories (String), time (Int64), any side and context columns
            (String) and, if known, label, target (Int8) and request (String), in file order.

    Raises:
        UserError: a split is left without samples, an option does not fit the data, or a side column is no property
            of the item (see `with_one_value`).
    """
    roles = roles_of(log.columns, options)
    log = sort_log(log, options["ties"], stream(options, "ties"))
    labelled = "label" in log.columns
    if not labelled:
        log = with_one_value(log, roles, options)
    table = behaviour_table(log, options)
    split = assign_splits(log, options)
    start, length = histories(log, table, options)
    split = np.where(length >= options["min_history"], split, UNUSED)
    if "target" in log.columns:
        split = np.where(log["target"].to_numpy() == 1, split, UNUSED)
    many = options.get("targets_per_user") or 0
    rank = target_ranks(*event_places(log)[1:], options["test_last"]) if many else None
    parts, left_out = {}, None
    for number, name in enumerate(SPLITS):
        rows = np.flatnonzero(split == number)
        if not len(rows):
            times = log["time"].to_numpy()
            span = int(times.min()), int(times.max())
            raise protocols.empty_split(name, log["user_id"].n_unique(), log.height, span, options)
        if labelled:
            part = log[rows].with_columns(history_start=start[rows], history_length=length[rows])
        else:
            strata = rank_strata(rank[rows], many) if rank is not None and name == "train" else None
            part = with_negatives(log, roles, rows, start[rows], length[rows], options, number, strata)
        part = part.select(
            pl.col("label").cast(pl.Int8),
            "user_id",
            *roles.of_samples,
            "history_start",
            pl.col("history_length").cast(pl.Int32),
        )
        order = stream(options, "order", number).permutation(part.height)
        parts[name] = part[order]
        if rank is not None and name == "train":
            late = np.tile(rank[rows] <= many, part.height // len(rows))[order]
            parts[name], left_out = part[order[late]], None if late.all() else part[order[~late]]

    info = {"options": options, "counts": counts(log, table, parts)}
    if options["history_order"] == "shuffled":
        rows = [*parts.values(), *([] if left_out is None else [left_out])]
        table, moved = shuffled(table, rows, stream(options, "histories"))
        parts = dict(zip(parts, moved, strict=False))
        left_out = None if left_out is None else moved[-1]
    return Samples(table, parts, info, left_out)


def behaviour_table(log: pl.DataFrame, options: dict) -> pl.DataFrame:
    """The behaviours of a sorted log, by user, time and tie; `Samples` says what its columns are."""
    roles, labelled = roles_of(log.columns, options), "label" in log.columns
    rows = np.arange(log.height)
    if labelled:
        # The clicks of interleaved requests need not be in the order of the requests.
        clicks = log.select("user_id", "time", "label", row=pl.int_range(pl.len())).filter(pl.col("label") == 1)
        rows = clicks.sort("user_id", "time", "row")["row"].to_numpy()
    behaviours = log[rows]
    table = behaviours.select(as_history(roles.of_behaviours, ""))
    if labelled:
        table = table.hstack(unclicked(log, rows, ["item_id", *roles.properties], stream(options, "exposures")))
    return table.hstack(time_tokens(behaviours, options["session_gap"])).hstack(behaviours.select("time", "user_id"))


def stream(options: dict, name: str, number: int = 0) -> np.random.Generator:
    """Random numbers of their own for each purpose, so that one option does not change what another draws."""
    return np.random.default_rng((options["seed"], STREAMS[name], number))


def sort_log(log: pl.DataFrame, ties: str, rng: np.random.Generator) -> pl.DataFrame:
    """The log by user and time, with the time at which its event began as `event_time`.

    Rows of a user and time are in random order, or with ties "file" in that of the file. The review files are sorted by
    item: a model that sees tied reviews in file order can tell the next item by its id.
    """
    log = log.with_columns(tie=rng.permutation(log.height) if ties == "random" else np.arange(log.height))
    if "request" not in log.columns:
        return log.sort("user_id", "time", "tie").drop("tie").with_columns(event_time="time")
    request = ["user_id", "request"]
    return (
        log.with_columns(event_time=pl.col("time").min().over(request), event_tie=pl.col("tie").min().over(request))
        .sort("user_id", "event_time", "event_tie", "time", "tie")
        .drop("tie", "event_tie")
    )


def event_numbers(log: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the user and of the event of each row of a sorted log, from 0 without gaps."""
    event = pl.struct("user_id", "request").rle_id() if "request" in log.columns else pl.int_range(pl.len())
    numbers = log.select(user=pl.col("user_id").rle_id().cast(pl.Int64), event=event.cast(pl.Int64))
    return numbers["user"].to_numpy(), numbers["event"].to_numpy()


def assign_splits(log: pl.DataFrame, options: dict) -> np.ndarray:
    """The split of each row of a sorted log, by the protocol."""
    user, event, events = event_places(log)
    time = log["event_time"].to_numpy()
    protocol = options["protocol"]
    if protocol == "last":
        return protocols.last(user, event, events, options["folds"], options["fold"], stream(options, "users"))
    if protocol == "leave_one_out":
        return protocols.leave_one_out(event, events, options["test_last"])
    if protocol == "time":
        return protocols.by_time(time, *protocols.cut_offs(options))
    return protocols.window(time, options["target_days"], options["valid_days"], options["test_days"])


def event_places(log: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row of a sorted log: number of the user, place of the event among the user's, number of these."""
    user, number = event_numbers(log)
    first_row, last_row = user_bounds(user)
    first = number[first_row[user]]
    return user, number - first, number[last_row[user]] - first + 1


def user_bounds(user: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row of each user."""
    first = np.flatnonzero(np.diff(user, prepend=-1))
    return first, np.append(first[1:], len(user)) - 1


def histories(log: pl.DataFrame, behaviours: pl.DataFrame, options: dict) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the history of each row of a sorted log, as a range of the behaviours."""
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
    options: dict,
    end: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of the history of each user at each time, as a range of the behaviours.

    Args:
        behaviours: (M,) sorted by user and time.
        behaviour_user: (M,) number of its user, ascending.
        user: (N,) numbers likewise.
        time: (N,) in seconds.
        end: (N,) one beyond the last behaviour of the history; without it that is the last one before the time.
    """
    moments = np.unique(behaviours["time"].to_numpy())

    def key(users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Ascends with user and time; times between two moments count as the later one."""
        return users * (len(moments) + 1) + np.searchsorted(moments, times)

    keys = key(behaviour_user, behaviours["time"].to_numpy())
    first = earliest = np.searchsorted(behaviour_user, user)
    end = np.searchsorted(keys, key(user, time)) if end is None else end
    if options["protocol"] == "window":
        earliest = np.searchsorted(keys, key(user, time - options["history_days"] * DAY))
    return protocols.history_ranges(first, end, earliest, options["max_len"])


def with_negatives(
    behaviours: pl.DataFrame,
    roles: Roles,
    rows: np.ndarray,
    start: np.ndarray,
    length: np.ndarray,
    options: dict,
    split: int,
    strata: np.ndarray | None,
) -> pl.DataFrame:
    """Return a positive and a negative sample for each of the rows; matched ones within the strata, if there are any.

    Both have the user and the context of the row, and of the properties that vary the latest values before its time.
    """
    item = behaviours["item_id"].rank("dense").to_numpy().astype(np.int64) - 1
    forbidden = sample_negatives.Forbidden.build(item, rows, start, length, options["exclude_history"])
    if strata is not None and options["negatives"] == "matched":
        drawn = sample_negatives.matched_within(
            strata, forbidden, lambda stratum: stream(options, "negatives", len(SPLITS) + stratum)
        )
    else:
        drawn = sample_negatives.SAMPLERS[options["negatives"]](forbidden, stream(options, "negatives", split))
    ranges = {"history_start": start, "history_length": length}
    positive = behaviours[rows].with_columns(label=pl.lit(1), **ranges)
    shared = behaviours.select("user_id", *roles.context)[rows]
    negative = behaviours[drawn].with_columns(*shared, label=pl.lit(0), **ranges)
    samples = pl.concat([positive, negative])
    time = np.tile(behaviours["event_time"].to_numpy()[rows], 2)
    return samples.with_columns(*latest_before(behaviours, roles.varying, samples["item_id"], time))


def as_history(names: list[str], prefix: str) -> list[pl.Expr]:
    """The columns of a behaviour under the names of the history columns."""
    return [pl.col(name).alias(prefix + history_of(name)) for name in names]


def unclicked(log: pl.DataFrame, click_rows: np.ndarray, names: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """The item that each behaviour was preferred to, in columns neg_<history column>."""
    user, event = event_numbers(log)
    clicked = log["label"].to_numpy() == 1
    item = log["item_id"].rank("dense").to_numpy().astype(np.int64)
    chosen = sample_negatives.behaviour_negatives(
        click_rows, item, clicked, user, event if "request" in log.columns else None, rng
    )
    return log.select(as_history(names, "neg_"))[np.maximum(chosen, 0)].with_columns(
        pl.when(pl.Series(chosen >= 0)).then(pl.all()).otherwise(pl.lit(""))
    )


def counts(log: pl.DataFrame, behaviours: pl.DataFrame, splits: dict[str, pl.DataFrame]) -> dict:
    """What a reader wants to know of the size."""
    return {
        "users": log["user_id"].n_unique(),
        "items": log["item_id"].n_unique(),
        **({"categories": log["cate_id"].n_unique()} if "cate_id" in log.columns else {}),
        "behaviours": behaviours.height,
        **{
            split: {
                "rows": rows.height,
                "positives": int(rows["label"].sum()),
                "mean_history": round(float(rows["history_length"].to_numpy().mean()), 2),
            }
            for split, rows in splits.items()
        },
    }


def time_tokens(behaviours: pl.DataFrame, session_gap: int) -> pl.DataFrame:
    """The session and the day (UTC) of each behaviour among its user's, counted 1, 2, ..., 10, 1, 2, ...

    Args:
        behaviours: user_id, time (seconds), sorted by both.
        session_gap: a session ends where the next behaviour is more than this many seconds later.

    Returns:
        `session_history` and `day_history` (String), a row a behaviour.
    """
    ends = {"session_history": pl.col("time").diff() > session_gap, "day_history": (pl.col("time") // DAY).diff() > 0}
    return behaviours.select(
        (end.fill_null(False).cum_sum().over("user_id") % CYCLE + 1).cast(pl.String).alias(name)
        for name, end in ends.items()
    )


def shuffled(
    behaviours: pl.DataFrame, parts: list[pl.DataFrame], rng: np.random.Generator
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """Return the same samples with each history in an order of its own, all properties of a behaviour together.

    What a model then still scores, it does not owe to the order of histories.
    Rows that have one history in common, as a positive and its negative do, have it in the same order.

    Args:
        behaviours: (M,) the table.
        parts: samples whose `history_start` and `history_length` refer to it.
        rng: of the orders.

    Returns:
        A table that holds a behaviour once for each history that it is part of, with `behaviour` (Int64), its row in
        the former table; and the parts, which refer to it.
    """
    spans = pl.concat([part.select(SPAN) for part in parts]).unique().sort(SPAN)
    length = spans["history_length"].to_numpy().astype(np.int64)
    rows, history = members(spans["history_start"].to_numpy(), length)
    rows = rows[np.lexsort((rng.random(len(rows)), history))]
    places = spans.with_columns(shuffled_start=np.cumsum(length) - length)
    moved = [
        part.join(places, on=SPAN, how="left", maintain_order="left")
        .with_columns(history_start="shuffled_start")
        .drop("shuffled_start")
        for part in parts
    ]
    return behaviours[rows].with_columns(behaviour=rows), moved


def target_ranks(event: np.ndarray, events: np.ndarray, test_last: int) -> np.ndarray:
    """Return the rank of each training event of leave_one_out among its user's, the latest first, from 1.

    Args:
        event: (N,) place of the row's event among all of its user's, from 0.
        events: (N,) number of its user's events.
        test_last: so many events are for the test, and as many for validation.
    """
    return events - event - 2 * test_last


def rank_strata(rank: np.ndarray, targets: int) -> np.ndarray:
    """Return the stratum of each training row, from 0; ranks beyond that of `targets` share one.

    The rows that `targets_per_user` leaves out are kept beside the others, for the vocabularies and the catalogue of
    behaviours: these must not depend on the number of targets. Matched negatives are permuted within strata of the
    events' ranks, 1, 2, 3 to 4, 5 to 8 and so on. A row that two numbers of targets share then has the same negative
    in both, and where that number is a power of two the items of the rows that stay are still matched exactly.
    Permuted over all rows they would not be: the latest behaviours are of later items than the others.
    """
    return np.ceil(np.log2(np.minimum(rank, 2 * min(targets, int(rank.max()))))).astype(np.int64)
