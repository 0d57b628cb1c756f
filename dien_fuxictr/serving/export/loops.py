"""The recurrences in operators of torch alone: a loop over time that `torch.export` keeps as a loop."""

import torch
from torch import Tensor
from torch._higher_order_ops import scan


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
    if kind == "AIGRU":
        x = a * x  # (9)

    def step(h: Tensor, now: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, real, a = now
        return torch.where(real, _next(h, x, a, weight_hh, bias, kind), h), h.new_zeros(())

    return scan(step, states.new_zeros(row.size(0), weight_hh.size(1)), (x, real, a), dim=0)[0]


def _next(h: Tensor, x: Tensor, a: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> Tensor:
    """One step of (2)-(5), or of (10)-(12). h: (N, H). x: (N, 3H), W i. a: (N, 1). Returns h', (N, H)."""
    size = h.size(1)
    of_input, of_state = x + bias, h @ weight_hh.T
    r = torch.sigmoid(of_input[:, size : 2 * size] + of_state[:, size : 2 * size])
    candidate = torch.tanh(of_input[:, 2 * size :] + r * of_state[:, 2 * size :])
    if kind == "AGRU":
        return h + a * (candidate - h)  # (10)
    u = torch.sigmoid(of_input[:, :size] + of_state[:, :size])
    if kind == "AUGRU":
        u = a * u  # (11)
    elif kind == "AUGRU-code":
        u = a + u - a * u
    return h + u * (candidate - h)


def _real(steps: Tensor, lengths: Tensor) -> Tensor:
    """(T, B, 1) bool."""
    number = torch.arange(steps.size(0), device=steps.device)
    return (number.unsqueeze(1) < lengths).unsqueeze(2)
