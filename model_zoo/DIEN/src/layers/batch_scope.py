"""Batch-wide operations under data parallelism: each process has a shard.

The trainer sets the shard by `use_shard`; elsewhere a process has the whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From columns (F, N) to (F, N, K) and (N, K)."""


class FullBatch:
    """Batch of which all rows are in this process.

    Attributes:
        is_shard: whether other processes have other rows of the batch.
    """

    is_shard = False

    def divisor(self, count: int) -> float:
        """Return the divisor, 1 or more, that turns a sum of `count` terms into a mean.

        The loss of a shard is weighted by its share of the rows. Its divisor is chosen such that the weighted sum over
        shards is the mean over all terms of the batch.
        """
        return max(count, 1)

    def drawn(self, ids: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the draws for the columns (F, N), looking at as many rows as needed."""
        return draw(ids)


_current = FullBatch()


def batch() -> FullBatch:
    """Return the current batch, or this process's shard of it."""
    return _current


@contextmanager
def use_shard(shard: FullBatch) -> Iterator[None]:
    """Make a batch mean this shard of a larger batch within the context.

    Each process computes the result for its own shard.
    """
    global _current
    before, _current = _current, shard
    try:
        yield
    finally:
        _current = before
