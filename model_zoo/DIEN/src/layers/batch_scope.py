"""Batch-wide operations under data parallelism: each process has a shard.

The trainer sets the shard by `use_shard`; elsewhere a process has the whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From columns (F, N) to (F, N, K) and (N, K)."""


class FullBatch:
    """Batch of which all rows are in this process.

    Attributes:
        is_shard: whether other processes have other rows of the batch.
        weight: share of the rows, by which the loss is weighted.
        first_row: number in the batch of this process's first row.
    """

    is_shard = False
    weight = 1.0
    first_row = 0

    def divisor(self, count: int) -> float:
        """Return the divisor, 1 or more, that turns a sum of `count` terms into a mean.

        The loss of a shard is weighted by its share of the rows. Its divisor is chosen such that the weighted sum over
        shards is the mean over all terms of the batch.
        """
        return max(count, 1)

    def drawn(self, ids: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the draws for the columns (F, N), looking at as many rows as needed."""
        return draw(ids)

    def summed(self, sums: Tensor) -> Tensor:
        """Return sums over all rows that are normalised together."""
        return sums

    def follow_running(self, *running: Tensor) -> None:
        """Keep running statistics equal in all processes, which have updated them by `summed` sums."""

    def tie(self, normalised: Tensor) -> None:
        """Make the loss depend on a result whose backward pass has sums over all rows."""


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


def take_moments(
    sums: Tensor, running_mean: Tensor | None, running_var: Tensor | None, momentum: float
) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance, (C,) each; running statistics follow them.

    In float64 the difference of the sums keeps the precision of float32.

    Args:
        sums: (1 + 2C,) float64: the number of rows, 2 or more, Σx and Σx².
        running_mean: (C,), or None.
        running_var: (C,), or None.
        momentum: weight of these rows in the running statistics.
    """
    rows = sums[0]
    mean, square = (sums[1:] / rows).chunk(2)
    variance = (square - mean.square()).clamp(min=0)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * rows / (rows - 1)).to(running_var.dtype), momentum)
    return mean, variance
