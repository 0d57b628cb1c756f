"""PyTorch backend over packed rows: only real behaviours are computed. Its loop needs the lengths on the host."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .step import advance


def attentional_gru(inputs: Tensor, attention: Tensor, mask: Tensor, state: Tensor,
                    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Arguments and results as in :func:`attentional_gru.attentional_gru`."""
    if kind == "AIGRU":
        inputs = inputs * attention.unsqueeze(-1)
    # Longest row first, so that the rows that still run at a step are the first ones.
    order = mask.sum(dim=1).argsort(descending=True, stable=True)
    step, rank = mask[order].t().nonzero(as_tuple=True)
    place = order[rank] * mask.size(1) + step
    running = [n for n in mask.sum(dim=0).tolist() if n]
    projected = F.linear(inputs.flatten(0, 1)[place], weight_ih, bias)
    scores = attention.flatten()[place].unsqueeze(1)
    h = state[order]
    states, finished = [], []
    for x, a in zip(projected.split(running), scores.split(running), strict=True):
        finished.append(h[len(x):])
        h = advance(x, a, h[:len(x)], weight_hh, kind)
        states.append(h)
    final = torch.cat([h, *reversed(finished)])
    every = state.new_zeros(mask.numel(), state.size(1))
    if states:
        every = every.index_copy(0, place, torch.cat(states))
    return every.view(*mask.shape, -1), final[order.argsort()]
