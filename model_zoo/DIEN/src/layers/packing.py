"""Packed rows: the real steps of a batch of sequences, one row behind the other, without padding."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the N steps of B rows lie.

    Attributes:
        offsets: (B + 1,) int64; row b has the steps offsets[b] to offsets[b + 1].
        row: (N,) int64, the row of each step.
    """

    offsets: Tensor
    row: Tensor

    @classmethod
    def of_lengths(cls, lengths: Tensor) -> "Packing":
        """lengths: (B,) int64, steps of each row."""
        return cls(_offsets(lengths), torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths))

    @classmethod
    def of_mask(cls, mask: Tensor) -> "Packing":
        """mask: (B, T) bool, real steps first."""
        return cls.of_lengths(mask.sum(dim=1))

    @cached_property
    def lengths(self) -> Tensor:
        """(B,) int64."""
        return self.offsets.diff()

    @cached_property
    def place(self) -> Tensor:
        """(N,) int64, the number of each step in its row."""
        return torch.arange(len(self.row), device=self.row.device) - self.offsets[self.row]

    @cached_property
    def reverse(self) -> Tensor:
        """(N,) int64, the steps that are read from the last of a row to its first."""
        return self.offsets[1:][self.row] - 1 - self.place

    @cached_property
    def by_time(self) -> "ByTime":
        """The same steps in the order in which a recurrence takes them."""
        return ByTime.of(self)

    def mask(self) -> Tensor:
        """(B, T) bool, real steps first; T is the longest row."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        return torch.arange(longest, device=self.row.device) < self.lengths.unsqueeze(1)

    def pad(self, steps: Tensor) -> Tensor:
        """steps: (N, ...). Returns (B, T, ...), zero behind the rows' ends; T is the longest row."""
        mask = self.mask()
        padded = steps.new_zeros(mask.numel(), *steps.shape[1:])
        padded = padded.index_copy(0, self.row * mask.size(1) + self.place, steps)
        return padded.view(*mask.shape, *steps.shape[1:])

    def spread(self, rows: Tensor) -> Tensor:
        """Gives each step what its row has. rows: (B, ...). Returns (N, ...)."""
        return rows.index_select(0, self.row)

    def sum(self, steps: Tensor) -> Tensor:
        """Over each row. steps: (N, ...). Returns (B, ...), zero for rows without steps."""
        return steps.new_zeros(len(self.lengths), *steps.shape[1:]).index_add(0, self.row, steps)

    def softmax(self, scores: Tensor) -> Tensor:
        """Over each row. scores: (N,). Returns (N,)."""
        lowest = torch.finfo(scores.dtype).min
        largest = scores.new_full(self.lengths.shape, lowest).scatter_reduce(0, self.row, scores.detach(), "amax")
        weights = torch.exp(scores - self.spread(largest))
        return weights / self.spread(self.sum(weights))

    def repeat(self, times: int) -> "Packing":
        """All rows, and all of them again, so many times in all."""
        return Packing.of_lengths(self.lengths.repeat(times))


@dataclass(frozen=True, eq=False)
class ByTime:
    """Steps of packed rows in the order of time, and those of one time from the longest row to the shortest.

    A recurrence in this order has B + N states: those before the first step, then those after each.

    Attributes:
        order: (B,) int64, rows, the longest first.
        step: (N,) int64, the packed steps in the order of time.
        running: how many rows have a step at each time.
        previous: (N,) int64, which of the states comes before each step.
        last: (B,) int64, which of the states is the last one of each row of `order`.
    """

    order: Tensor
    step: Tensor
    running: list[int]
    previous: Tensor
    last: Tensor

    @classmethod
    def of(cls, packing: Packing) -> "ByTime":
        rows = len(packing.lengths)
        order = packing.lengths.argsort(descending=True, stable=True)
        number = torch.arange(rows, device=order.device)
        rank = torch.empty_like(order).scatter_(0, order, number)[packing.row]
        step = (packing.place * rows + rank).argsort()
        running = torch.bincount(packing.place)
        # The first state of each time, which is before the first step at time 0.
        first = torch.cat([running.new_zeros(1), rows + running.cumsum(0) - running])
        return cls(
            order, step, running.tolist(), (first[packing.place] + rank)[step], first[packing.lengths[order]] + number
        )


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def pack(ids: list[Tensor]) -> tuple[list[Tensor], Packing]:
    """Takes the real steps out of padded rows, in their order.

    A step is real where the first field's id is not 0, so that pre-padding, post-padding and gaps mean the same.

    Args:
        ids: one (B, T) tensor a field; what belongs to the same behaviours is taken along with the first.

    Returns:
        The packed ids, one (N,) a field, and where they lie.
    """
    real = ids[0] > 0
    place = real.flatten().nonzero().squeeze(1)
    packing = Packing(_offsets(real.sum(dim=1)), torch.div(place, max(real.size(1), 1), rounding_mode="floor"))
    return [x.flatten()[place] for x in ids], packing
