"""Choice of the kernel, and of the rows and threads per program."""

import os
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

# U may take this much memory on chip, so that two programs share the 227 KiB of an H100's multiprocessor. The rest must
# hold what threads exchange, which is the limit on GPUs with less memory.
RESIDENT_BYTES = 96 * 1024
EXCHANGE_BYTES = 24 * 1024
# BLOCK_ROWS is the smallest that tl.dot takes: steps wait more than they compute, so many small programs are best. 4096
# rows give each of the 132 multiprocessors of an H100 about two programs; with more than 4 warps, its registers suffice
# for only one.
RESIDENT = {"BLOCK_ROWS": 16, "num_warps": 4}
# Each program reads all of U at each step, so there are half as many programs. Two stages of tiles fit on every GPU.
TILED = {"BLOCK_ROWS": 32, "num_warps": 8, "num_stages": 2}
TILE_BYTES = 256  # per row of a tile, which has at most 64 numbers


def forward(
    gates: Tensor,
    kept: Tensor | None,
    attention: Tensor | None,
    state: Tensor,
    weight_hh: Tensor,
    offsets: Tensor,
    order: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernel; arguments as in the kernels, all contiguous.

    Returns:
        states: (N, H). final: (B, H).
    """
    resident, tiled = _kernels(state.device)
    rows, hidden = state.shape
    states = state.new_empty(len(gates), hidden)
    if is_resident(weight_hh):
        final = torch.empty_like(state)
        _run(
            resident.forward,
            weight_hh,
            kind,
            rows,
            gates,
            kept,
            attention,
            state,
            weight_hh,
            offsets,
            order,
            states,
            final,
        )
    else:
        final = state.clone()
        hold = state.new_empty(2, rows, hidden, dtype=_accumulator(state.dtype))
        hold[0] = state
        _run(
            tiled.forward, weight_hh, kind, rows, gates, kept, attention, hold, weight_hh, offsets, order, states, final
        )
    return states, final


def backward(
    d_states: Tensor | None,
    d_final: Tensor,
    gates: Tensor,
    kept: Tensor,
    attention: Tensor | None,
    weight_hh: Tensor,
    offsets: Tensor,
    order: Tensor,
    kind: str,
    wants_gates: bool,
    wants_attention: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor]:
    """Launch the backward kernel; arguments as in the kernels, all contiguous.

    Returns:
        d_gates: (N, 4H) and d_attention: (N,), each None if it is not wanted. d_state: (B, H).
    """
    resident, tiled = _kernels(d_final.device)
    rows, hidden = d_final.shape
    d_attention = gates.new_empty(len(gates)) if wants_attention else None
    if is_resident(weight_hh):
        d_gates = gates.new_empty(len(gates), 4 * hidden) if wants_gates else None
        d_state = torch.empty_like(d_final)
        _run(
            resident.backward,
            weight_hh,
            kind,
            rows,
            d_states,
            d_final,
            gates,
            kept,
            attention,
            weight_hh,
            offsets,
            order,
            d_gates,
            d_attention,
            d_state,
        )
        return d_gates, d_attention, d_state
    d_gates = gates.new_empty(len(gates), 4 * hidden)
    hold = d_final.to(_accumulator(d_final.dtype), copy=True)
    _run(
        tiled.backward,
        weight_hh,
        kind,
        rows,
        d_states,
        hold,
        gates,
        kept,
        attention,
        weight_hh,
        offsets,
        order,
        d_gates,
        d_attention,
    )
    return d_gates if wants_gates else None, d_attention, hold.to(d_final.dtype)


def require() -> None:
    """Check that the kernels can run.

    Raises:
        RuntimeError: triton is not installed, or there is no device for it.
    """
    try:
        import triton  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise RuntimeError("The recurrence on a GPU needs triton, which is not installed: pip install triton") from None
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("The Triton kernels need an NVIDIA GPU, and torch finds none")


def _kernels(device: torch.device) -> tuple[ModuleType, ModuleType]:
    require()
    from . import gates, resident, tiled

    if device.type != "cuda" and not gates.INTERPRETED.value:
        raise ValueError(f"x must be on a GPU, is on {device}")
    return resident, tiled


def is_resident(weight_hh: Tensor) -> bool:
    """Return whether U stays on chip."""
    limit = RESIDENT_BYTES
    if weight_hh.is_cuda:
        memory = torch.cuda.get_device_properties(weight_hh.device).shared_memory_per_block_optin
        limit = min(limit, memory - EXCHANGE_BYTES)
    copies = 2 if precision(weight_hh.dtype) == "tf32x3" else 1  # float32 is stored as two parts
    return 3 * _block(weight_hh.size(1)) ** 2 * weight_hh.element_size() * copies <= limit


def _run(kernel: Any, weight_hh: Tensor, kind: str, rows: int, *arguments: Tensor | None) -> None:
    import triton.language as tl

    if not rows:
        return
    hidden = weight_hh.size(1)
    if is_resident(weight_hh):
        sizes = {**RESIDENT, "BLOCK_H": _block(hidden)}
    else:
        sizes = {**TILED, "TILE": min(64, TILE_BYTES // weight_hh.element_size())}
    with torch.cuda.device_of(weight_hh):
        kernel[(-(-rows // sizes["BLOCK_ROWS"]),)](
            *arguments,
            rows,
            H=hidden,
            KIND=kind,
            PRECISION=precision(weight_hh.dtype),
            FLOAT=tl.float64 if weight_hh.dtype == torch.float64 else tl.float32,
            **sizes,
        )


def _block(hidden: int) -> int:
    return max(16, 1 << (hidden - 1).bit_length())


def precision(dtype: torch.dtype) -> str:
    """Return the precision of products, an argument of tl.dot.

    float32 is computed in TF32 if torch's products may be, else as three TF32 products, which is nearly exact. Exact
    products would leave the tensor cores unused.
    """
    if dtype != torch.float32:
        return "ieee"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32
