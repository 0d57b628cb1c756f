"""The recurrences of DIEN in the paper's equations (Zhou et al., AAAI 2019): short, slow, right."""

from typing import Literal, get_args

import torch
from torch import Tensor

from ..layers.packing import Packing

GruType = Literal["GRU", "AIGRU", "AGRU", "AUGRU"]
GRU_TYPES = get_args(GruType)
KINDS = (*GRU_TYPES, "AUGRU-code")
"""`AUGRU-code` has the sign of the authors' program, where attention scales the gate that keeps the old state."""


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
    """One step of all rows after the other; arguments and results as in `attentional_gru.attentional_gru`.

    GRU (2)-(5), AIGRU (9), AGRU (10), AUGRU (11)-(12). `AUGRU-code` is the authors' program: there the gate that is
    scaled, by 1 - a, is the one that *keeps* the old state.
    """
    W_u, W_r, W_h = weight_ih.chunk(3)
    U_u, U_r, U_h = weight_hh.chunk(3)
    b_u, b_r, b_h = bias.chunk(3)
    states = inputs.new_zeros(len(inputs), state.size(1))
    for t in range(int(packing.lengths.max())):
        rows = (packing.lengths > t).nonzero().squeeze(1)
        step = packing.offsets[rows] + t
        i, a, h = inputs[step], attention[step, None], state[rows]
        if kind == "AIGRU":
            i = a * i  # (9)
        u = torch.sigmoid(i @ W_u.T + h @ U_u.T + b_u)  # (2)
        r = torch.sigmoid(i @ W_r.T + h @ U_r.T + b_r)  # (3)
        candidate = torch.tanh(i @ W_h.T + r * (h @ U_h.T) + b_h)  # (4)
        if kind == "AGRU":
            u = a  # (10)
        elif kind == "AUGRU":
            u = a * u  # (11)
        elif kind == "AUGRU-code":
            u = 1 - (1 - a) * (1 - u)
        h = (1 - u) * h + u * candidate  # (5), (12)
        states = states.index_copy(0, step, h)
        state = state.index_copy(0, rows, h)
    return states, state
