"""Recurrence over packed rows: checks of arguments and choice of precision."""

import torch
from torch import Tensor

from . import triton_operators

KINDS = ("GRU", "AIGRU", "AGRU", "AUGRU", "AUGRU-tensorflow")
"""Recurrences that the kernels have."""
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
    """Run consecutive rows without padding; the host never waits for the device.

    The kinds are GRU (2)-(5), AIGRU (9), AGRU (10) and AUGRU (11)-(12) of Zhou et al., AAAI 2019. The backward pass is
    written by hand and differentiable once. For 16-bit tensors, sums and the state between steps are in float32.
    Products of float32 with weight_hh are in TF32 if `torch.backends.cuda.matmul` allows it; otherwise each is computed
    as three TF32 products, which is close to float32. Under autocast, tensors other than float64 are cast to its dtype,
    like those of torch.nn.GRU.

    Args:
        x: (N, I), on an NVIDIA GPU, or a CPU under Triton's interpreter; float32, bfloat16, float16 or float64, like
            all tensors but `offsets`.
        offsets: (B + 1,) int64: row b has the steps offsets[b] to offsets[b + 1]. They must rise from 0 to N; this is
            not checked, since the host would have to wait for the device.
        attention: (N,), or None for the GRU.
        state: (B, H).
        weight_ih: (3H, I).
        weight_hh: (3H, H).
        bias: (3H,).
        kind: as in `attentional_gru.attentional_gru`.

    Returns:
        states: (N, H). final: (B, H), the state after a row's last step; `state` for a row without steps.

    Raises:
        ValueError: the kind is unknown, or a tensor has the wrong shape, dtype or device.
        RuntimeError: triton is not installed.
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
    """Cast a tensor to autocast's dtype, unless it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(torch.get_autocast_dtype(tensor.device.type))
