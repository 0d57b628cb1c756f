"""Batch-wide operations under data parallelism, where each process has a shard of the batch.

The trainer names the shard by `use_shard`; everywhere else a process has its whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From columns (F, N) to (F, N, K) and (N, K)."""


class FullBatch:
    """All rows of the batch are here.

    Attributes:
        is_shard: whether other processes have other rows of the batch.
    """

    is_shard = False

    def divisor(self, count: int) -> float:
        """What a sum over `count` terms is divided by to be the batch's mean, 1 or more.

        For a shard, whose loss is weighed by its share of the rows: so that the weighed sum is the mean over all terms.
        """
        return max(count, 1)

    def drawn(self, ids: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """What is drawn for the columns (F, N): of as many of them as are to be looked at together."""
        return draw(ids)


_current = FullBatch()


def batch() -> FullBatch:
    """The batch that is computed now, or this process's shard of it."""
    return _current


@contextmanager
def use_shard(shard: FullBatch) -> Iterator[None]:
    """Within, a batch is this shard of what several processes have together; each computes the same on its own."""
    global _current
    before, _current = _current, shard
    try:
        yield
    finally:
        _current = before
