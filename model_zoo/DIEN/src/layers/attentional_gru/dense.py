"""PyTorch backend over padded rows, which never asks the device for lengths; the plain GRU by torch's own kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .step import advance


def attentional_gru(inputs: Tensor, attention: Tensor, mask: Tensor, state: Tensor,
                    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Arguments and results as in :func:`attentional_gru.attentional_gru`."""
    if kind == "AIGRU":
        inputs = inputs * attention.unsqueeze(-1)
    if kind in ("GRU", "AIGRU"):
        return _gru(inputs, mask, state, weight_ih, weight_hh, bias)
    projected = F.linear(inputs, weight_ih, bias).transpose(0, 1)
    states = []
    for x, a, real in zip(projected, attention.t().unsqueeze(-1), mask.t().unsqueeze(-1), strict=True):
        state = torch.where(real, advance(x, a, state, weight_hh, kind), state)
        states.append(state)
    return torch.stack(states, dim=1).masked_fill(~mask.unsqueeze(-1), 0), state


def _gru(inputs: Tensor, mask: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor,
         bias: Tensor) -> tuple[Tensor, Tensor]:
    # torch orders the gates (r, z, n) and its z keeps the old state: z = 1 - u = sigmoid(-pre-activation of u).
    def torch_gates(weight: Tensor) -> Tensor:
        u, r, h = weight.chunk(3)
        return torch.cat([r, -u, h]).flatten()

    sizes = [weight_ih.numel(), weight_hh.numel(), bias.numel(), bias.numel()]
    parts = [torch_gates(weight_ih), torch_gates(weight_hh), torch_gates(bias), torch.zeros_like(bias)]
    w_ih, w_hh, b_ih, b_hh = torch.cat(parts).split(sizes)  # one buffer: cuDNN takes it as it lies
    params = [w_ih.view_as(weight_ih), w_hh.view_as(weight_hh), b_ih, b_hh]
    states, _ = torch.gru(inputs, state.unsqueeze(0), params, True, 1, 0.0, torch.is_grad_enabled(), False, True)
    lengths = mask.sum(dim=1)
    last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, state.size(1))
    final = torch.where(lengths.unsqueeze(1) > 0, states.gather(1, last).squeeze(1), state)
    return states.masked_fill(~mask.unsqueeze(-1), 0), final
