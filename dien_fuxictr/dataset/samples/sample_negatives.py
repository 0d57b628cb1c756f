"""Items that stand for what a user did not choose.

A negative is drawn as a *row* of the behaviours, so that an item comes with the side fields it was observed with.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dien_fuxictr.common.errors import UserError

from .ranges import Occurrences

ROUNDS = 100
AT_ONCE = 100_000
"""Samples that are looked at together; the others may be on disk."""

Array = Callable[[int], np.ndarray]
"""Makes an array of so many int64: in memory, or mapped from a file."""


def in_memory(size: int) -> np.ndarray:
    """An array of int64, not filled."""
    return np.empty(size, np.int64)


@dataclass(frozen=True)
class Forbidden:
    """Which items may not stand beside a positive: its own and, with `histories`, those of its history.

    Attributes:
        item: (M,) item number of each behaviour, from 0 without gaps.
        positive: (N,) behaviour that is the positive of a sample.
        start, length: (N,) range of the behaviours that are its history.
        occurrences: of the items among the behaviours; None if histories do not matter.
    """

    item: np.ndarray
    positive: np.ndarray
    start: np.ndarray
    length: np.ndarray
    occurrences: "Within | None"

    @classmethod
    def build(
        cls, item: np.ndarray, positive: np.ndarray, start: np.ndarray, length: np.ndarray, histories: bool
    ) -> "Forbidden":
        """As the attributes say; `histories`: whether they are forbidden too."""
        return cls(item, positive, start, length, Occurrences(item) if histories else None)

    def among(self, negative: np.ndarray) -> np.ndarray:
        """The samples whose `negative`, (N,) behaviours, is forbidden."""
        parts = (np.arange(first, min(first + AT_ONCE, len(negative))) for first in range(0, len(negative), AT_ONCE))
        return np.concatenate([part[self(part, negative[part])] for part in parts])

    def take(self, samples: np.ndarray, array: "Array") -> "Forbidden":
        """The same for some of the samples."""
        positive, start, length = (gathered(each, samples, array) for each in (self.positive, self.start, self.length))
        return Forbidden(self.item, positive, start, length, self.occurrences)

    def __call__(self, sample: np.ndarray | int, negative: np.ndarray) -> np.ndarray:
        """Whether each `negative` (a behaviour) is forbidden for its `sample`; shapes broadcast."""
        item = self.item[negative]
        forbidden = item == self.item[self.positive[sample]]
        if self.occurrences is not None:
            forbidden = forbidden | self.occurrences.within(item, self.start[sample], self.length[sample])
        return forbidden


class Within(Protocol):
    """What tells whether an item stands in a range: `Occurrences` by an index."""

    def within(self, value: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Whether each `value` occurs in its range; shapes broadcast."""
        ...


def gathered(values: np.ndarray, places: np.ndarray, array: "Array") -> np.ndarray:
    """The values at some places."""
    taken = array(len(places))
    for first in range(0, len(places), AT_ONCE):
        taken[first : first + AT_ONCE] = values[places[first : first + AT_ONCE]]
    return taken


def matched(forbidden: Forbidden, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """The positives in another order, so that no rule on the item alone tells the two apart: its AUC is exactly .5.

    A random permutation in which each forbidden pair is mended by a swap. Without histories that always succeeds
    unless one item makes up more than half of the positives; a sample that no swap can mend gets a random allowed
    positive, the marginals differ by that much, and a warning says so.

    Returns:
        (N,) the behaviour that is the negative of each sample.
    """
    negative = array(len(forbidden.positive))
    negative[:] = forbidden.positive
    rng.shuffle(negative)
    pair = array(len(negative))
    for _ in range(ROUNDS):
        bad = forbidden.among(negative)
        if not len(bad):
            return negative
        swap(forbidden, negative, bad, rng.integers(len(negative), size=len(bad)), pair)
    samples = np.arange(len(negative))
    unmatched = 0
    for sample in forbidden.among(negative):
        if not forbidden(sample, negative[sample]):
            continue  # mended as the partner of an earlier one
        mends = ~forbidden(sample, negative) & ~forbidden(samples, negative[sample])
        allowed = np.flatnonzero(mends if mends.any() else ~forbidden(sample, negative))
        if not len(allowed):
            raise UserError(
                "no negative is left for some sample: its split has too few items that differ from its "
                "positive and history; use negatives: uniform, or more data"
            )
        partner = rng.choice(allowed)
        if mends.any():
            negative[[sample, partner]] = negative[[partner, sample]]
        else:
            negative[sample] = negative[partner]
            unmatched += 1
    if unmatched:
        logging.warning(
            f"{unmatched} of {len(negative)} negatives could not be matched: their items stand more often among the "
            "negatives than among the positives"
        )
    return negative


def matched_within(
    strata: np.ndarray,
    forbidden: Forbidden,
    rng_of: Callable[[int], np.random.Generator],
    array: Array = in_memory,
) -> np.ndarray:
    """As `matched`, within each stratum by itself; `strata` is (N,), of whole numbers."""
    negative = array(len(strata))
    for stratum in np.unique(strata):
        samples = array(int(np.count_nonzero(strata == stratum)))
        done = 0
        for first in range(0, len(strata), AT_ONCE):
            some = first + np.flatnonzero(strata[first : first + AT_ONCE] == stratum)
            samples[done : done + len(some)] = some
            done += len(some)
        drawn = matched(forbidden.take(samples, array), rng_of(int(stratum)), array)
        for first in range(0, len(samples), AT_ONCE):
            negative[samples[first : first + AT_ONCE]] = drawn[first : first + AT_ONCE]
    return negative


def swap(forbidden: Forbidden, negative: np.ndarray, bad: np.ndarray, partner: np.ndarray, pair: np.ndarray) -> None:
    """Exchange the negatives of `bad` samples and their partners, in place, where that leaves both allowed.

    `pair`, (N,), is overwritten: a sample that several pairs want belongs to one of them.
    """
    number = np.arange(len(bad))
    pair[bad] = number
    pair[partner] = number
    free = (pair[bad] == number) & (pair[partner] == number)
    bad, partner = bad[free], partner[free]
    mends = ~forbidden(bad, negative[partner]) & ~forbidden(partner, negative[bad])
    bad, partner = bad[mends], partner[mends]
    negative[bad], negative[partner] = negative[partner], negative[bad]


def popularity(forbidden: Forbidden, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """Drawn from all behaviours, as DIEN's authors do: an item as often as it occurs. Returns as `matched`."""
    pool = array(len(forbidden.item))
    for first in range(0, len(pool), AT_ONCE):
        pool[first : first + AT_ONCE] = np.arange(first, min(first + AT_ONCE, len(pool)))
    return draw(forbidden, pool, rng, array)


def uniform(forbidden: Forbidden, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """Drawn from all items, each as likely as the other. Returns as `matched`."""
    return draw(forbidden, first_rows(forbidden.item), rng, array)


def first_rows(item: np.ndarray) -> np.ndarray:
    """The first behaviour of each item, in the order of the items; (M,) numbers from 0 without gaps."""
    first = np.zeros(0, np.int64)
    for begin in range(0, len(item), AT_ONCE):
        items, rows = np.unique(item[begin : begin + AT_ONCE], return_index=True)
        known = len(first)
        first = np.concatenate([first, np.full(max(int(items[-1]) + 1 - known, 0), len(item))])
        first[items] = np.minimum(first[items], begin + rows)
    return first


def draw(forbidden: Forbidden, pool: np.ndarray, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """A member of the pool for each sample, forbidden ones redrawn."""
    negative = array(len(forbidden.positive))
    for first in range(0, len(negative), AT_ONCE):
        negative[first : first + AT_ONCE] = rng.choice(pool, size=min(AT_ONCE, len(negative) - first))
    bad = forbidden.among(negative)
    for _ in range(ROUNDS):
        bad = bad[forbidden(bad, negative[bad])]
        if not len(bad):
            return negative
        negative[bad] = rng.choice(pool, size=len(bad))
    for sample in bad[forbidden(bad, negative[bad])]:
        allowed = pool[~forbidden(sample, pool)]
        if not len(allowed):
            raise UserError("no negative is left for some sample: its positive and history are all the items there are")
        negative[sample] = rng.choice(allowed)
    return negative


SAMPLERS = {"matched": matched, "popularity": popularity, "uniform": uniform}


def behaviour_negatives(
    row: np.ndarray,
    item: np.ndarray,
    clicked: np.ndarray,
    user: np.ndarray,
    request: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """For each click an exposure that was not clicked: of the same request if there is one, else the nearest before.

    Args:
        row: (M,) the exposures that are clicks.
        item, clicked, user, request: (N,) of each exposure; the log is sorted by user and time. `item` and
            `request` are int64; `request` is None where the log has none.

    Returns:
        (M,) an exposure, of another item than the click; -1 where there is none.
    """
    passed = np.flatnonzero(~clicked)
    nearest = np.searchsorted(passed, row) - 1  # in `passed`
    while True:
        known = nearest >= 0
        known[known] = user[passed[nearest[known]]] == user[row[known]]
        nearest[~known] = -1
        same = np.flatnonzero(known)
        same = same[item[passed[nearest[same]]] == item[row[same]]]
        if not len(same):
            break
        nearest[same] -= 1
    chosen = np.full(len(row), -1)
    chosen[known] = passed[nearest[known]]
    if request is not None:
        items = item.max(initial=0) + 1
        key = request * items + item
        passed = passed[np.argsort(key[passed], kind="stable")]
        first, end = (np.searchsorted(key[passed], (request[row] + more) * items) for more in (0, 1))
        own, own_end = (np.searchsorted(key[passed], key[row], side) for side in ("left", "right"))
        others = end - first - (own_end - own)
        some = others > 0
        pick = first[some] + rng.integers(others[some])
        chosen[some] = passed[np.where(pick < own[some], pick, pick + (own_end - own)[some])]
    return chosen
