import numpy as np
import polars as pl
import pytest

from dien_fuxictr.dataset.samples import distinct_values
from dien_fuxictr.dataset.samples.distinct_values import Numbers, Words


def test_words_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct_values, "SPARE", 3)
    gathered = Words()
    for first in range(0, 40, 10):
        gathered.add(pl.Series([str(number % 23) for number in range(first, first + 10)]))
        assert sum(map(len, gathered._parts)) <= 2 * 23 + 3
    assert gathered.sorted().to_list() == sorted({str(number) for number in range(23)})


def test_indices_are_right_despite_equal_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    known = pl.Series(["a", "b", "c", "d"])
    values = pl.Series(["d", "a", "a", "c"])
    assert Numbers(known).of(values).tolist() == [3, 0, 0, 2]
    hashes, seeds = pl.Series.hash, []

    def meeting(self: pl.Series, seed: int = 0) -> pl.Series:
        seeds.append(seed)
        return hashes(self, seed) if seed == 2 else pl.Series(np.zeros(len(self), np.uint64))

    monkeypatch.setattr(pl.Series, "hash", meeting)
    assert Numbers(known).of(values).tolist() == [3, 0, 0, 2] and seeds == [0, 1, 2, 2]
