"""Sessions or days: runs of behaviours with equal time tokens."""

from typing import NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """Segments of a batch of histories.

    Attributes:
        segment: (B, T), number of the segment of each step, from 0.
        mask: (B, K) bool, real segments first.
    """

    segment: Tensor
    mask: Tensor

    def mean(self, steps: Tensor, real: Tensor) -> Tensor:
        """Return the mean of each segment's steps.

        Args:
            steps: (B, T, D).
            real: (B, T) bool.

        Returns:
            (B, K, D), zero for padding.
        """
        steps = steps.masked_fill(~real.unsqueeze(-1), 0)
        total = self._empty(steps, 0).scatter_add(1, self._places(steps), steps)
        count = real.new_zeros(self.mask.shape, dtype=steps.dtype).scatter_add(1, self.segment, real.to(steps.dtype))
        return total / count.clamp(min=1).unsqueeze(-1)

    def max(self, steps: Tensor, real: Tensor) -> Tensor:
        """Return the largest value of each segment's steps; shapes as in `mean`."""
        lowest = torch.finfo(steps.dtype).min
        steps = steps.masked_fill(~real.unsqueeze(-1), lowest)
        largest = self._empty(steps, lowest).scatter_reduce(1, self._places(steps), steps, "amax")
        return largest.masked_fill(~self.mask.unsqueeze(-1), 0)

    def _empty(self, steps: Tensor, value: float) -> Tensor:
        return steps.new_full((*self.mask.shape, steps.size(-1)), value)

    def _places(self, steps: Tensor) -> Tensor:
        return self.segment.unsqueeze(-1).expand_as(steps)


def segments_of(times: Tensor, mask: Tensor) -> Segments:
    """Build segments that end where the token changes.

    Args:
        times: (B, T) tokens.
        mask: (B, T) bool, real steps first.

    Returns:
        Segments. K is the largest number of segments in a row, at least 1; on a GPU it is T, since reading the number
        would make the host wait.
    """
    begins = mask.clone()
    begins[:, 1:] &= times[:, 1:] != times[:, :-1]
    number = begins.cumsum(dim=1)
    counts = begins.sum(dim=1, keepdim=True)
    size = max(1, int(counts.max()) if times.device.type == "cpu" and len(times) else times.size(1))
    return Segments((number - 1).clamp(min=0), torch.arange(size, device=times.device) < counts)
