"""Ranges [start, start + length) of a table's rows: how histories are stored."""

from typing import Any

import numpy as np

AT_ONCE = 10_000
"""Ranges that `RangeReader` reads together."""


def members(start: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of all ranges, and the number of the range of each row."""
    length = length.astype(np.int64)
    number = np.repeat(np.arange(len(start)), length)
    offset = np.cumsum(length) - length
    return np.arange(len(number)) - offset[number] + start[number], number


def coverage(start: np.ndarray, length: np.ndarray, size: int) -> np.ndarray:
    """Return how many ranges contain each of a table's rows, (size,) int64."""
    opened = np.bincount(start, minlength=size + 1) - np.bincount(start + length, minlength=size + 1)
    return np.cumsum(opened)[:size]


class Occurrences:
    """Index that tells in logarithmic time whether a value occurs in a range.

    It has the sorted places of each value.
    """

    def __init__(self, values: np.ndarray) -> None:
        """`values`: (M,) numbers from 0 of the table's rows."""
        self.rows = np.int64(len(values))
        self.places = np.sort(values * self.rows + np.arange(self.rows))

    def within(self, value: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return whether each `value` occurs in its range; shapes broadcast."""
        first = value * self.rows + start
        return np.searchsorted(self.places, first + length) > np.searchsorted(self.places, first)


class RangeReader:
    """Reader that tells whether a value occurs in a range, without an index.

    It reads the ranges, for values in a file and short ranges.
    """

    def __init__(self, values: Any) -> None:
        """`values`: (M,) of the table's rows, an array or what is indexed as one."""
        self.values = values

    def within(self, value: np.ndarray, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        """Return the result of `Occurrences.within`."""
        shape = np.broadcast_shapes(*map(np.shape, (value, start, length)))
        value, start, length = (np.broadcast_to(each, shape).ravel() for each in (value, start, length))
        found = np.zeros(len(value), bool)
        for first in range(0, len(value), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            rows, number = members(start[part], length[part])
            hits = self.values[rows] == value[part][number]
            found[part] = np.bincount(number[hits], minlength=len(found[part])) > 0
        return found.reshape(shape)
