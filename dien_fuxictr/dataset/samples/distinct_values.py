"""Distinct values of a column that is read in parts, and their indices."""

import itertools

import numpy as np
import polars as pl

SPARE = 100_000
"""Values above those that are distinct that may be kept until they are compared."""


class Words:
    """Collector of the distinct values of a column."""

    def __init__(self) -> None:
        self._parts: list[pl.Series] = []

    def add(self, values: pl.Series) -> None:
        """Add values of the column."""
        self._parts.append(values.unique())
        first, *others = map(len, self._parts)
        if sum(others) > first + SPARE:
            self._parts = [pl.concat(self._parts).unique()]

    def sorted(self) -> pl.Series:
        """Return the distinct values, ascending."""
        return pl.concat(self._parts).unique().sort()


class Numbers:
    """Index of each of some values, found by their hashes.

    The table of hashes is built once instead of per part.

    Args:
        words: distinct values.
    """

    def __init__(self, words: pl.Series) -> None:
        # until all hashes differ; ten million words need a second seed once in 300,000 times
        for self._seed in itertools.count():
            hashes = words.hash(self._seed).to_numpy()
            self._place = np.argsort(hashes)
            self._hashes = hashes[self._place]
            if (self._hashes[1:] != self._hashes[:-1]).all():
                break

    def of(self, values: pl.Series) -> np.ndarray:
        """Return the indices (N,) of values that are all among the words."""
        hashes = values.hash(self._seed).to_numpy()
        order = np.argsort(hashes)  # sorted hashes are looked up in neighbouring parts of the table
        places = np.empty(len(hashes), np.int64)
        places[order] = self._place[np.searchsorted(self._hashes, hashes[order])]
        return places
