"""The recurrence over packed rows: what it takes, and in which precision."""

import torch
from torch import Tensor

from . import triton_operators

KINDS = ("GRU", "AIGRU", "AGRU", "AUGRU", "AUGRU-tensorflow")
"""The recurrences that the kernels have."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def recurrence(
    x: Tensor,
    offsets: Tensor,
    attention: Tensor | None,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    """Runs rows that lie one after the other, without padding; the host never waits for the device.

    GRU (2)-(5), AIGRU (9), AGRU (10) and AUGRU (11)-(12) of Zhou et al., AAAI 2019. The backward pass is written by
    hand and differentiable once. For 16-bit tensors, sums and the state from step to step are in float32. Products of
    float32 with weight_hh are in TF32 where `torch.backends.cuda.matmul` allows it, else each is made of three such,
    which comes near to float32. Under autocast, tensors other than float64 are cast to its type, as torch.nn.GRU's are.

    Args:
        x: (N, I), on an NVIDIA GPU, or a CPU under Triton's interpreter; float32, bfloat16, float16 or float64, as are
            all but `offsets`.
        offsets: (B + 1,) int64: row b has the steps offsets[b] to offsets[b + 1]. They must rise from 0 to N, which is
            not checked, as the host would have to wait for it.
        attention: (N,), or None for the GRU.
        state: (B, H). weight_ih: (3H, I). weight_hh: (3H, H). bias: (3H,).
        kind: as in `attentional_gru.attentional_gru`.

    Returns:
        states: (N, H). final: (B, H), the state after a row's last step; `state` where it has none.

    Raises:
        ValueError: unknown kind, or a tensor of another shape, dtype or device.
        RuntimeError: there is no triton.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; allowed: {', '.join(KINDS)}")
    if kind == "GRU":
        attention = None
    device = x.device
    if torch.is_autocast_enabled(device.type):
        x, state, weight_ih, weight_hh, bias = map(_lower, (x, state, weight_ih, weight_hh, bias))
        attention = None if attention is None else _lower(attention)
    hidden, rows, steps = state.size(-1), offsets.size(0) - 1, x.size(0)
    if x.dtype not in DTYPES:
        raise ValueError(f"x is {x.dtype}; allowed: {', '.join(map(str, DTYPES))}")
    shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "x": (x, (steps, x.size(-1))),
        "offsets": (offsets, (rows + 1,)),
        "state": (state, (rows, hidden)),
        "weight_ih": (weight_ih, (3 * hidden, x.size(-1))),
        "weight_hh": (weight_hh, (3 * hidden, hidden)),
        "bias": (bias, (3 * hidden,)),
    }
    if kind != "GRU":
        shapes["attention"] = (attention, (steps,))
    for name, (tensor, shape) in shapes.items():
        dtype = torch.int64 if name == "offsets" else x.dtype
        if tensor is None or tensor.shape != shape or tensor.dtype != dtype or tensor.device != device:
            raise ValueError(
                f"{name} must be {shape}, {dtype} on {device}, is "
                + ("None" if tensor is None else f"{tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}")
            )
    if kind == "AIGRU":
        assert attention is not None
        x, attention, kind = x * attention.unsqueeze(-1), None, "GRU"  # (9)
    tensors = (x, attention, state, weight_ih, weight_hh, bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    states, final, *_ = triton_operators.forward(x, offsets, attention, state, weight_ih, weight_hh, bias, kind, keep)
    return states, final


def _lower(tensor: Tensor) -> Tensor:
    """In the type of autocast."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.get_autocast_dtype(tensor.device.type))
