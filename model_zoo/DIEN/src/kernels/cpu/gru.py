"""Recurrence over packed rows as a function of autograd."""

import ctypes
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import library
from .layout import KINDS, LANES, Structure
from .workspace import Pool

_pool = Pool()


class Problem(Structure):
    """Structure of recurrence.h."""

    _fields_ = [
        (name, ctypes.c_int64) for name in ("rows", "inputs", "hidden", "kind", "threads", "blocks", "rows_per_block")
    ] + [
        (name, ctypes.c_void_p)
        for name in ("offsets", "order", "first_step", "x", "attention", "state", "weight_ih", "weight_hh", "bias")
    ]


class Outcome(Structure):
    """Structure of recurrence_backward.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("states", "kept", "d_states", "d_final"))


class Gradients(Structure):
    """Structure of recurrence_backward.h."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("x", "attention", "state", "weight_ih", "weight_hh", "bias"))


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
    """Run the recurrence over consecutive rows without padding.

    The backward pass is written by hand and differentiable once. With equal numbers of threads, runs agree in every
    bit.

    Args:
        x: (N, I), float32 or float64 on a CPU, like all tensors but `offsets`.
        offsets: (B + 1,) int64: row b has the steps offsets[b] to offsets[b + 1].
        attention: (N,), or None for the GRU.
        state: (B, H).
        weight_ih: (3H, I).
        weight_hh: (3H, H).
        bias: (3H,).
        kind: as in `attentional_gru.attentional_gru`.

    Returns:
        states: (N, H). final: (B, H), the state after a row's last step; `state` for a row without steps.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device.
        RuntimeError: there is no compiler.
    """
    hidden = state.size(-1)
    rows, steps = len(offsets) - 1, len(x)
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"x is {x.dtype}; allowed: torch.float32, torch.float64")
    shapes: dict[str, tuple[Tensor | None, tuple[int, ...]]] = {
        "x": (x, (steps, x.size(-1))),
        "state": (state, (rows, hidden)),
        "bias": (bias, (3 * hidden,)),
        "weight_ih": (weight_ih, (3 * hidden, x.size(-1))),
        "weight_hh": (weight_hh, (3 * hidden, hidden)),
    }
    if kind != "GRU":
        shapes["attention"] = (attention, (steps,))
    for name, (tensor, shape) in shapes.items():
        if tensor is None or tensor.shape != shape or tensor.dtype != x.dtype or tensor.device.type != "cpu":
            raise ValueError(
                f"{name} must be {shape}, {x.dtype} on a CPU, is "
                + ("None" if tensor is None else f"{tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}")
            )
    if kind == "GRU":
        attention = None
    elif kind == "AIGRU":
        assert attention is not None
        x, attention, kind = x * attention.unsqueeze(-1), None, "GRU"  # (9)
    tensors = (x, attention, state, weight_ih, weight_hh, bias)
    keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    return _Recurrence.apply(*tensors, offsets, kind, keep)


class _Recurrence(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        attention: Tensor | None,
        state: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        offsets: Tensor,
        kind: str,
        keep: bool,
    ) -> tuple[Tensor, Tensor]:
        tensors = [t if t is None else t.contiguous() for t in (x, attention, state, weight_ih, weight_hh, bias)]
        offsets = offsets.contiguous()
        ctx.kind = kind
        order, first_step, ctx.rows_per_block = _plan(offsets, len(x))
        kept = None
        if keep:
            gates = (3 if kind == "AGRU" else 4) * state.size(1)
            kept = _pool.empty(int(first_step[-1]) * gates * LANES, x.dtype)
        states, final = x.new_empty(len(x), state.size(1)), state.new_empty(state.shape)
        library.call(
            "recurrence_forward", _problem(ctx, tensors, offsets, order, first_step), states, final, kept, dtype=x.dtype
        )
        ctx.save_for_backward(*tensors, offsets, order, first_step, states, kept)
        ctx.set_materialize_grads(False)
        return states, final

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_states: Tensor | None, d_final: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        *tensors, offsets, order, first_step, states, kept = ctx.saved_tensors
        d_states, d_final = (d if d is None else d.contiguous() for d in (d_states, d_final))
        needed = ctx.needs_input_grad[:6]
        wanted = [*needed[:3], *[any(needed[3:])] * 3]
        # AGRU does not use the weights of u, so their gradient is zero.
        new = [torch.empty_like, torch.empty_like, torch.empty_like, *[torch.zeros_like] * 3]
        gradients = [make(t) if want else None for make, t, want in zip(new, tensors, wanted, strict=True)]
        library.call(
            "recurrence_backward",
            _problem(ctx, tensors, offsets, order, first_step),
            Outcome(*map(library.address, (states, kept, d_states, d_final))),
            Gradients(*map(library.address, gradients)),
            dtype=states.dtype,
        )
        return *(d if need else None for d, need in zip(gradients, needed, strict=True)), None, None, None


def _plan(offsets: Tensor, steps: int) -> tuple[Tensor, Tensor, int]:
    """Sort rows by length, and divide them into blocks.

    Args:
        offsets: (B + 1,) int64, contiguous.
        steps: N.

    Returns:
        order: (B,), the longest row first. first_step: (blocks + 1,), the first step of each block, and the sum of
            steps. rows_per_block: number of rows of each block but the last.

    Raises:
        ValueError: `offsets` do not rise from 0 to `steps`.
    """
    rows = len(offsets) - 1
    order, first_step, size = (offsets.new_empty(n) for n in (rows, _blocks(rows, LANES // 2) + 1, 1))
    library.call("recurrence_plan", rows, steps, offsets, torch.get_num_threads(), order, first_step, size)
    rows_per_block = int(size)
    return order, first_step[: _blocks(rows, rows_per_block) + 1], rows_per_block


def _blocks(rows: int, rows_per_block: int) -> int:
    return -(-rows // rows_per_block)


def _problem(ctx: Any, tensors: list[Tensor | None], offsets: Tensor, order: Tensor, first_step: Tensor) -> Problem:
    x, state = cast(Tensor, tensors[0]), cast(Tensor, tensors[2])
    return Problem(
        len(state),
        x.size(1),
        state.size(1),
        KINDS.index(ctx.kind),
        torch.get_num_threads(),
        len(first_step) - 1,
        ctx.rows_per_block,
        *map(library.address, (offsets, order, first_step, *tensors)),
    )
