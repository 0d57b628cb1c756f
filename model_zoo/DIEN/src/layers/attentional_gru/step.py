import torch
import torch.nn.functional as F
from torch import Tensor


def advance(x: Tensor, attention: Tensor, state: Tensor, weight_hh: Tensor, kind: str) -> Tensor:
    """One step of the rows that are still running.

    Args:
        x: (N, 3H), the step's projected inputs W i + b. attention: (N, 1). state: (N, H). weight_hh: (3H, H).
        kind: as in :func:`attentional_gru.attentional_gru`; AIGRU's inputs are scaled already.

    Returns:
        (N, H).
    """
    size = state.size(1)
    h = F.linear(state, weight_hh)
    if kind == "AGRU":
        r = torch.sigmoid(x[:, size:2 * size] + h[:, size:2 * size])
        u = attention
    else:
        u, r = torch.sigmoid(x[:, :2 * size] + h[:, :2 * size]).chunk(2, dim=1)
        if kind == "AUGRU":
            u = attention * u
        elif kind == "AUGRU-code":
            u = attention + u - attention * u
    candidate = torch.tanh(torch.addcmul(x[:, 2 * size:], r, h[:, 2 * size:]))
    return state + u * (candidate - state)
