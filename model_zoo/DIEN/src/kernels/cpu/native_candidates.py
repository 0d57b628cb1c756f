"""Recurrence of many candidates that share their inputs, without gradients."""

import ctypes

import torch
from torch import Tensor

from . import library
from .layout import KINDS, Structure
from .net import check


class Candidates(Structure):
    """Structure of candidates.h."""

    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "steps", "hidden", "kind", "threads")] + [
        (name, ctypes.c_void_p) for name in ("inputs", "attention", "state", "weight_hh", "bias")
    ]


def evolve_candidates(
    inputs: Tensor, attention: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str
) -> Tensor:
    """Run equal inputs for each candidate, with the candidate's attention.

    Args:
        inputs: (T, I), float32 or float64 on a CPU, like all tensors.
        attention: (T, B); not used by the plain GRU.
        state: (B, H).
        weight_ih: (3H, I).
        weight_hh: (3H, H).
        bias: (3H,).
        kind: as in `attentional_gru.attentional_gru`.

    Returns:
        (B, H), the states after the last step.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device.
        RuntimeError: there is no compiler.
    """
    rows, hidden = state.shape
    if inputs.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"inputs is {inputs.dtype}; allowed: torch.float32, torch.float64")
    check(
        {
            "inputs": (inputs, (len(inputs), weight_ih.size(-1))),
            "attention": (attention, (len(inputs), rows)),
            "state": (state, (rows, hidden)),
            "weight_ih": (weight_ih, (3 * hidden, weight_ih.size(-1))),
            "weight_hh": (weight_hh, (3 * hidden, hidden)),
            "bias": (bias, (3 * hidden,)),
        },
        inputs.dtype,
    )
    # With `out`, autocast does not change the dtype.
    of_inputs = torch.mm(inputs, weight_ih.T, out=inputs.new_empty(len(inputs), 3 * hidden))
    tensors = [tensor.contiguous() for tensor in (of_inputs, attention, state, weight_hh, bias)]
    final = torch.empty_like(tensors[2])
    library.call(
        "evolve_candidates",
        Candidates(
            rows, len(inputs), hidden, KINDS.index(kind), torch.get_num_threads(), *map(library.address, tensors)
        ),
        final,
        dtype=inputs.dtype,
    )
    return final
