"""Behaviour sequences as the rest of the model wants them: real steps first, padding behind."""

from typing import NamedTuple

import torch
from torch import Tensor


def align(ids: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Moves the real steps of padded rows to the front, keeping their order.

    A step is real where the first field's id is not 0, so that pre-padding, post-padding and gaps mean the same.

    Args:
        ids: one (B, T) tensor a field; what belongs to the same behaviours moves along with the first.

    Returns:
        The aligned ids and the mask (B, T') of real steps. T' = T, but on a CPU, where looking costs nothing, the
        longest real row.
    """
    real = ids[0] > 0
    lengths = real.sum(dim=1)
    steps = ids[0].size(1)
    # Padding goes to a spare column at the end, which is cut off.
    place = torch.where(real, real.cumsum(dim=1) - 1, steps)
    if ids[0].device.type == "cpu":
        steps = int(lengths.max()) if len(lengths) else 0
    aligned = [torch.zeros(len(x), x.size(1) + 1, dtype=x.dtype, device=x.device).scatter_(1, place, x)[:, :steps]
               for x in ids]
    mask = torch.arange(steps, device=lengths.device) < lengths.unsqueeze(1)
    return aligned, mask


class Interests(NamedTuple):
    """What one behaviour sequence tells before any target is known.

    ids: (F, B, T). behaviours: (B, T, D), embeddings e_t, zero at padding. mask: (B, T) bool, real steps first.
    states: (B, T, H), interest states h_t. final: (B, H), the extractor's state after the last behaviour.
    """

    ids: Tensor
    behaviours: Tensor
    mask: Tensor
    states: Tensor
    final: Tensor

    def expand(self, rows: int) -> "Interests":
        """One user's interests for many candidates: the batch dimension of 1 becomes ``rows``, without a copy."""
        return Interests(self.ids.expand(-1, rows, -1),
                         *(x.expand(rows, *x.shape[1:]) for x in self[1:]))


class Evolution(NamedTuple):
    """How one sequence's interests evolve towards a target.

    attention: (B, T), zero at padding; None for the plain GRU. states: (B, T, H), h'_t, zero at padding.
    final: (B, H), h'_T.
    """

    attention: Tensor | None
    states: Tensor
    final: Tensor
