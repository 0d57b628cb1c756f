"""CPU backend in C++, over packed rows; compiled on first use."""

import torch
from torch import Tensor

from ..compiled import recurrence


def attentional_gru(inputs: Tensor, attention: Tensor, mask: Tensor, state: Tensor,
                    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Arguments and results as in :func:`attentional_gru.attentional_gru`."""
    offsets = torch.cat([mask.new_zeros(1, dtype=torch.int64), mask.sum(dim=1).cumsum(dim=0)])
    place = mask.flatten().nonzero().squeeze(1)
    states, final = recurrence(inputs.flatten(0, 1)[place], offsets, attention.flatten()[place], state,
                               weight_ih, weight_hh, bias, kind)
    every = state.new_zeros(mask.numel(), state.size(1)).index_copy(0, place, states)
    return every.view(*mask.shape, -1), final
