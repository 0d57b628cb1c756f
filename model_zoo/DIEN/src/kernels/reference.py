"""The recurrences of DIEN as equations of the paper (Zhou et al., AAAI 2019).

The code is short and slow; other backends are tested against it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..layers.packing import Packing

GruType = Literal["GRU", "AIGRU", "AGRU", "AUGRU"]
GRU_TYPES = get_args(GruType)


@dataclass(frozen=True)
class Kind:
    """A recurrence, declared by its differences from the GRU (2)-(5).

    Attributes:
        gate: weight of the candidate, a function of the update gate u and the attention a.
        candidate: (4), a function of W_h i, U_h h, b_h and the reset gate r.
        scales_input: whether attention scales the input i, (9).
        attends: whether attention has any effect.
    """

    gate: Callable[[Tensor, Tensor], Tensor] = lambda u, a: u
    candidate: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] = lambda Wi, Uh, b, r: torch.tanh(Wi + r * Uh + b)
    scales_input: bool = False
    attends: bool = True


KINDS = {
    "GRU": Kind(attends=False),
    "AIGRU": Kind(scales_input=True),  # (9)
    "AGRU": Kind(gate=lambda u, a: a),  # (10)
    "AUGRU": Kind(gate=lambda u, a: a * u),  # (11)
    # In the authors' program, attention 1 - a scales the gate that *keeps* the old state.
    "AUGRU-tensorflow": Kind(gate=lambda u, a: 1 - (1 - a) * (1 - u)),
}
"""Every recurrence, by its name."""


def recurrence(
    inputs: Tensor,
    packing: Packing,
    attention: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    """Run all rows step by step; arguments and results as in `attentional_gru`."""
    W_u, W_r, W_h = weight_ih.chunk(3)
    U_u, U_r, U_h = weight_hh.chunk(3)
    states = inputs.new_zeros(len(inputs), state.size(1))
    for t in range(int(packing.lengths.max())):
        rows = (packing.lengths > t).nonzero().squeeze(1)
        step = packing.offsets[rows] + t
        i, a, h = inputs[step], attention[step, None], state[rows]
        if KINDS[kind].scales_input:
            i = a * i  # (9)
        Wi = i @ W_u.T, i @ W_r.T, i @ W_h.T
        Uh = h @ U_u.T, h @ U_r.T, h @ U_h.T
        h = next_state(kind, a, h, Wi, Uh, bias.chunk(3))
        states = states.index_copy(0, step, h)
        state = state.index_copy(0, rows, h)
    return states, state


def next_state(
    kind: str, a: Tensor, h: Tensor, Wi: tuple[Tensor, ...], Uh: tuple[Tensor, ...], b: tuple[Tensor, ...]
) -> Tensor:
    """Return the states h' after one step of B rows.

    Args:
        kind: a key of `KINDS`.
        a: (B, 1), attention.
        h: (B, H), the states before the step.
        Wi: (B, H) each, W i of the update gate, the reset gate and the candidate.
        Uh: (B, H) each, U h in that order.
        b: (H,) each, biases in that order.
    """
    u = torch.sigmoid(Wi[0] + Uh[0] + b[0])  # (2)
    r = torch.sigmoid(Wi[1] + Uh[1] + b[1])  # (3)
    candidate = KINDS[kind].candidate(Wi[2], Uh[2], b[2], r)  # (4)
    gate = KINDS[kind].gate(u, a)
    return (1 - gate) * h + gate * candidate  # (5), (12)
