"""The recurrences in operators of torch alone: a loop over time that `torch.export` keeps as a loop.

A step is that of DIEN's reference, so that a new kind is exported without a change here.
"""

import torch
from torch import Tensor
from torch._higher_order_ops import scan

from model_zoo.DIEN.src.kernels.reference import KINDS, next_state


def extract(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """As `operators.extract` of `model_zoo.DIEN`; what is behind the rows' ends means nothing."""

    def step(h: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, real = now
        h = torch.where(real, _next(h, x, h, weight_hh, bias, "GRU"), h)
        return h, h.clone()

    start = inputs.new_zeros(inputs.size(1), weight_hh.size(1))
    return scan(step, start, (inputs @ weight_ih.T, _real(inputs, lengths)), dim=0)[1]


def evolve(
    states: Tensor,
    lengths: Tensor,
    row: Tensor,
    attention: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> Tensor:
    """As `operators.evolve` of `model_zoo.DIEN`."""
    x = (states @ weight_ih.T)[:, row]
    real, a = _real(states, lengths)[:, row], attention.unsqueeze(2)
    if KINDS[kind].scales_input:
        x = a * x  # (9): W (a i)

    def step(h: Tensor, now: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, real, a = now
        return torch.where(real, _next(h, x, a, weight_hh, bias, kind), h), h.new_zeros(())

    return scan(step, states.new_zeros(row.size(0), weight_hh.size(1)), (x, real, a), dim=0)[0]


def _next(h: Tensor, x: Tensor, a: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> Tensor:
    """Return h' after one step. h: (N, H). x: (N, 3H), W i. a: (N, 1), attention."""
    return next_state(kind, a, h, x.chunk(3, dim=1), (h @ weight_hh.T).chunk(3, dim=1), bias.chunk(3))


def _real(steps: Tensor, lengths: Tensor) -> Tensor:
    """(T, B, 1) bool."""
    number = torch.arange(steps.size(0), device=steps.device)
    return (number.unsqueeze(1) < lengths).unsqueeze(2)
