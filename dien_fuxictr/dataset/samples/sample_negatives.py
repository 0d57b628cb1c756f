"""Sampled items that represent the choices that a user did not make.

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
    """Return an int64 array with arbitrary values."""
    return np.empty(size, np.int64)


@dataclass(frozen=True)
class Forbidden:
    """Items that may not be the negative of a positive.

    These are its own item and, with `histories`, those of its history.

    Attributes:
        item: (M,) index of the item of each behaviour, from 0 without gaps.
        positive: (N,) behaviour that is the positive of a sample.
        start, length: (N,) range of the behaviours that are its history.
        occurrences: occurrences of the items among the behaviours; None if histories do not matter.
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
        """Build from the attributes; `histories` forbids the items of histories, too."""
        return cls(item, positive, start, length, Occurrences(item) if histories else None)

    def among(self, negative: np.ndarray) -> np.ndarray:
        """Return the samples whose `negative`, (N,) behaviours, is forbidden."""
        parts = (np.arange(first, min(first + AT_ONCE, len(negative))) for first in range(0, len(negative), AT_ONCE))
        return np.concatenate([part[self(part, negative[part])] for part in parts])

    def take(self, samples: np.ndarray, array: "Array") -> "Forbidden":
        """Return the forbidden items of some samples."""
        positive, start, length = (gathered(each, samples, array) for each in (self.positive, self.start, self.length))
        return Forbidden(self.item, positive, start, length, self.occurrences)

    def __call__(self, sample: np.ndarray | int, negative: np.ndarray) -> np.ndarray:
        """Return whether each `negative` (a behaviour) is forbidden for its `sample`.

        Shapes broadcast.
        """
        item = self.item[negative]
        forbidden = item == self.item[self.positive[sample]]
        if self.occurrences is not None:
            forbidden = forbidden | self.occurrences.within(item, self.start[sample], self.length[sample])
        return forbidden


class Within(Protocol):
    """Test whether an item occurs in a range, such as `Occurrences`."""

    def within(self, value: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return whether each `value` occurs in its range; shapes broadcast."""
        ...


def gathered(values: np.ndarray, places: np.ndarray, array: "Array") -> np.ndarray:
    """Return the values at some places."""
    taken = array(len(places))
    for first in range(0, len(places), AT_ONCE):
        taken[first : first + AT_ONCE] = values[places[first : first + AT_ONCE]]
    return taken


def matched(forbidden: Forbidden, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """Return the positives in another order, as negatives.

    No rule on the item alone can then tell positives from negatives: its AUC is exactly .5. It is a random permutation
    in which each forbidden pair is repaired by a swap. Without histories the repair always succeeds unless one item
    makes up more than half of the positives. A sample that no swap can repair gets a random allowed positive; the
    marginals then differ by these samples, and a warning reports them.

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
            continue  # already repaired as the partner of an earlier sample
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
            f"{unmatched} of {len(negative)} negatives could not be matched: their items are more frequent among the "
            "negatives than among the positives"
        )
    return negative


def matched_within(
    strata: np.ndarray,
    forbidden: Forbidden,
    rng_of: Callable[[int], np.random.Generator],
    array: Array = in_memory,
) -> np.ndarray:
    """Return `matched` negatives, permuted within each stratum.

    Args:
        strata: (N,) whole numbers.
        forbidden: forbidden items.
        rng_of: stratum -> its random numbers.
        array: makes an array of a size.
    """
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
    """Exchange the negatives of `bad` samples and partners if both are then allowed.

    The exchange is in place. `pair`, (N,), is overwritten: a sample that several pairs contain takes part in one of
    them.
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
    """Draw from all behaviours, like DIEN's authors: items by their frequency.

    The result is as of `matched`.
    """
    pool = array(len(forbidden.item))
    for first in range(0, len(pool), AT_ONCE):
        pool[first : first + AT_ONCE] = np.arange(first, min(first + AT_ONCE, len(pool)))
    return draw(forbidden, pool, rng, array)


def uniform(forbidden: Forbidden, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """Draw from all items with equal probability; the result is as of `matched`."""
    return draw(forbidden, first_rows(forbidden.item), rng, array)


def first_rows(item: np.ndarray) -> np.ndarray:
    """Return the first behaviour of each item, in the order of the items.

    Args:
        item: (M,) indices from 0 without gaps.
    """
    first = np.zeros(0, np.int64)
    for begin in range(0, len(item), AT_ONCE):
        items, rows = np.unique(item[begin : begin + AT_ONCE], return_index=True)
        known = len(first)
        first = np.concatenate([first, np.full(max(int(items[-1]) + 1 - known, 0), len(item))])
        first[items] = np.minimum(first[items], begin + rows)
    return first


def draw(forbidden: Forbidden, pool: np.ndarray, rng: np.random.Generator, array: Array = in_memory) -> np.ndarray:
    """Draw a member of the pool for each sample; forbidden ones are drawn again."""
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
    """Return an exposure that was not clicked for each click.

    It is of the click's request if there is one, else the nearest before.

    Args:
        row: (M,) the exposures that are clicks.
        item: (N,) int64 of each exposure; the log is sorted by user and time.
        clicked: (N,) bool.
        user: (N,) index of the user.
        request: (N,) int64; None if the log has no requests.
        rng: random numbers for choices within a request.

    Returns:
        (M,) an exposure, of another item than the click; -1 if there is none.
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
