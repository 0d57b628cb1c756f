"""kernel.cpp's functions."""

import ctypes
import os
from functools import lru_cache

import torch  # before the library: both then run on the OpenMP that torch brought
from torch import Tensor

from .build import build

LANES = 32  # rows of a block at most, as in lanes.h
KINDS = {"GRU": 0, "AGRU": 1, "AUGRU": 2, "AUGRU-code": 3}

_NAMES = {torch.float32: "float", torch.float64: "double"}
_NO_MEMORY, _BAD_OFFSETS = 1, 2


class Problem(ctypes.Structure):
    """As in problem.h."""

    _fields_ = [(name, ctypes.c_int64) for name in
                ("rows", "inputs", "hidden", "kind", "threads", "blocks", "rows_per_block")] + \
               [(name, ctypes.c_void_p) for name in
                ("offsets", "order", "first_step", "x", "attention", "state", "weight_ih", "weight_hh", "bias")]


class Outcome(ctypes.Structure):
    """As in backward.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("states", "kept", "d_states", "d_final")]


class Gradients(ctypes.Structure):
    """As in backward.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in
                ("x", "attention", "state", "weight_ih", "weight_hh", "bias")]


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def plan(offsets: Tensor, steps: int, rows_per_block: int) -> tuple[Tensor, Tensor]:
    """Sorts rows by length.

    Args:
        offsets: (B + 1,) int64, contiguous.

    Returns:
        order: (B,), the longest row first. first_step: (blocks + 1,), where each block's steps begin, and their sum.

    Raises:
        ValueError: ``offsets`` do not rise from 0 to ``steps``.
    """
    rows = len(offsets) - 1
    order, first_step = offsets.new_empty(rows), offsets.new_empty(-(-rows // rows_per_block) + 1)
    _check(_library().recurrence_plan(*map(ctypes.c_int64, (rows, steps)), ctypes.c_void_p(address(offsets)),
                                      ctypes.c_int64(rows_per_block), ctypes.c_void_p(address(order)),
                                      ctypes.c_void_p(address(first_step))))
    return order, first_step


def forward(dtype: torch.dtype, problem: Problem, states: Tensor, final: Tensor, kept: Tensor | None) -> None:
    function = getattr(_library(), f"recurrence_forward_{_NAMES[dtype]}")
    _check(function(ctypes.byref(problem), *(ctypes.c_void_p(address(t)) for t in (states, final, kept))))


def backward(dtype: torch.dtype, problem: Problem, outcome: Outcome, gradients: Gradients) -> None:
    function = getattr(_library(), f"recurrence_backward_{_NAMES[dtype]}")
    _check(function(ctypes.byref(problem), ctypes.byref(outcome), ctypes.byref(gradients)))


def _check(status: int) -> None:
    if status == _NO_MEMORY:
        raise MemoryError("no memory for the recurrence")
    if status == _BAD_OFFSETS:
        raise ValueError("offsets must rise from 0 to the number of steps")


def _library() -> ctypes.CDLL:
    return _load(os.environ.get("CXX"), os.environ.get("DIEN_CXXFLAGS"))


@lru_cache
def _load(*_environment: str | None) -> ctypes.CDLL:
    return ctypes.CDLL(str(build()))
