"""Packed rows: the real steps of a batch, row after row, without padding."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Places of the N steps of B rows.

    Attributes:
        offsets: (B + 1,) int64; row b has the steps offsets[b] to offsets[b + 1].
        row: (N,) int64, the row of each step.
    """

    offsets: Tensor
    row: Tensor

    @classmethod
    def of_lengths(cls, lengths: Tensor) -> "Packing":
        """Build a packing from lengths (B,) int64, the number of steps of each row."""
        return cls(_offsets(lengths), torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths))

    @classmethod
    def of_mask(cls, mask: Tensor) -> "Packing":
        """Build a packing from a mask (B, T) bool, with real steps first."""
        return cls.of_lengths(mask.sum(dim=1))

    @cached_property
    def lengths(self) -> Tensor:
        """Return the number of steps of each row, (B,) int64."""
        return self.offsets.diff()

    @cached_property
    def place(self) -> Tensor:
        """Return the number of each step in its row, from 0, (N,) int64."""
        return torch.arange(len(self.row), device=self.row.device) - self.offsets[self.row]

    @cached_property
    def reverse(self) -> Tensor:
        """Return the index (N,) int64 that reverses the steps of each row."""
        return self.offsets[1:][self.row] - 1 - self.place

    @cached_property
    def by_time(self) -> "ByTime":
        """Return the steps in the order in which a recurrence takes them."""
        return ByTime.of(self)

    def mask(self) -> Tensor:
        """Return the mask (B, T) bool, real steps first; T is the longest row."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        return torch.arange(longest, device=self.row.device) < self.lengths.unsqueeze(1)

    def pad(self, steps: Tensor) -> Tensor:
        """Return steps (N, ...) as (B, T, ...), zero beyond the end of a row.

        T is the longest row.
        """
        mask = self.mask()
        padded = steps.new_zeros(mask.numel(), *steps.shape[1:])
        padded = padded.index_copy(0, self.row * mask.size(1) + self.place, steps)
        return padded.view(*mask.shape, *steps.shape[1:])

    def spread(self, rows: Tensor) -> Tensor:
        """Return per step, (N, ...), the value of its row, (B, ...)."""
        return rows.index_select(0, self.row)

    def sum(self, steps: Tensor) -> Tensor:
        """Return the sum over each row, (B, ...), of steps (N, ...); zero without steps."""
        return steps.new_zeros(len(self.lengths), *steps.shape[1:]).index_add(0, self.row, steps)

    def softmax(self, scores: Tensor) -> Tensor:
        """Return the softmax over each row, (N,), of scores (N,)."""
        lowest = torch.finfo(scores.dtype).min
        largest = scores.new_full(self.lengths.shape, lowest).scatter_reduce(0, self.row, scores.detach(), "amax")
        weights = torch.exp(scores - self.spread(largest))
        return weights / self.spread(self.sum(weights))

    def repeat(self, times: int) -> "Packing":
        """Return a packing of all rows, repeated a number of times."""
        return Packing.of_lengths(self.lengths.repeat(times))


@dataclass(frozen=True, eq=False)
class ByTime:
    """Steps of packed rows in the order of time, at each time the longest row first.

    A recurrence in this order has B + N states: the states before the first step, then those after each step.

    Attributes:
        order: (B,) int64, rows, the longest first.
        step: (N,) int64, the packed steps in the order of time.
        running: number of rows that have a step at each time.
        previous: (N,) int64, index of the state before each step.
        last: (B,) int64, index of the last state of each row of `order`.
    """

    order: Tensor
    step: Tensor
    running: list[int]
    previous: Tensor
    last: Tensor

    @classmethod
    def of(cls, packing: Packing) -> "ByTime":
        """Build the order of time of a packing."""
        rows = len(packing.lengths)
        order = packing.lengths.argsort(descending=True, stable=True)
        number = torch.arange(rows, device=order.device)
        rank = torch.empty_like(order).scatter_(0, order, number)[packing.row]
        step = (packing.place * rows + rank).argsort()
        running = torch.bincount(packing.place)
        # Index of the first state at each time; at time 0, of the state before the first step.
        first = torch.cat([running.new_zeros(1), rows + running.cumsum(0) - running])
        return cls(
            order, step, running.tolist(), (first[packing.place] + rank)[step], first[packing.lengths[order]] + number
        )


def _offsets(lengths: Tensor) -> Tensor:
    return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])


def pack(ids: list[Tensor]) -> tuple[list[Tensor], Packing]:
    """Pack the real steps of padded rows, in their order.

    A step is real if the first field's id is not 0, so that pre-padding, post-padding and gaps are equivalent.

    Args:
        ids: one (B, T) tensor per field; steps of all fields are selected by the first field.

    Returns:
        The packed ids, one (N,) per field, and their packing.
    """
    real = ids[0] > 0
    place = real.flatten().nonzero().squeeze(1)
    packing = Packing(_offsets(real.sum(dim=1)), torch.div(place, max(real.size(1), 1), rounding_mode="floor"))
    return [x.flatten()[place] for x in ids], packing
