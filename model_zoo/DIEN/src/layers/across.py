"""What rows of a batch must know of each other where several processes have a part of the batch each.

Who trains so says it by `part_of`; everywhere else a process has its whole batch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From columns (F, N) to (F, N, K) and (N, K)."""


class Whole:
    """All rows of the batch are here.

    Attributes:
        is_part: whether other processes have other rows.
    """

    is_part = False

    def divisor(self, count: int) -> float:
        """What a sum over `count` terms is divided by to be the batch's mean, 1 or more.

        For a part, whose loss is weighed by its share of the rows: so that the weighed sum is the mean over all terms.
        """
        return max(count, 1)

    def drawn(self, ids: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """What is drawn for the columns (F, N): of as many of them as are to be looked at together."""
        return draw(ids)


_current = Whole()


def batch() -> Whole:
    """The batch that is computed now, or this process's part of it."""
    return _current


@contextmanager
def part_of(part: Whole) -> Iterator[None]:
    """Within, batches are this part of what several processes have together; all of them compute the same on theirs."""
    global _current
    before, _current = _current, part
    try:
        yield
    finally:
        _current = before
