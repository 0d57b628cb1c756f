"""What rows of a batch must know of each other where several processes have a part of the batch each.

Who trains so says it by `part_of`; everywhere else a process has its whole batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


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

    def gather(self, ids: Tensor) -> tuple[Tensor, slice]:
        """The columns (F, N) of all parts side by side, and where this part's are."""
        return ids, slice(None)


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
