"""Which code runs the recurrence, and the nets beside it."""

import logging
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from .. import compiled, triton_gpu
from ..compiled.build import build
from ..packing import Packing
from . import in_torch, reference

Recurrence = Callable[[Tensor, Packing, Tensor, Tensor, Tensor, Tensor, Tensor, str], tuple[Tensor, Tensor]]


def _compiled(
    inputs: Tensor,
    packing: Packing,
    attention: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    return compiled.recurrence(inputs, packing.offsets, attention, state, weight_ih, weight_hh, bias, kind)


def _triton(
    inputs: Tensor,
    packing: Packing,
    attention: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    return triton_gpu.recurrence(inputs, packing.offsets, attention, state, weight_ih, weight_hh, bias, kind)


BACKENDS: dict[str, Recurrence] = {
    "reference": reference.recurrence,
    "torch": in_torch.recurrence,
    "compiled": _compiled,
    "triton": _triton,
}

CANDIDATES = {"torch": in_torch.evolve_candidates, "compiled": compiled.evolve_candidates}
"""For rows that share their inputs."""


def require(backend: str) -> None:
    """Prepares what a backend needs.

    Raises:
        RuntimeError: the machine lacks it.
    """
    if backend == "compiled":
        build()
    if backend == "triton":
        triton_gpu.require()


def resolve(backend: str, inputs: Tensor) -> str:
    """The name behind ``auto``: the fastest backend that this machine has for such tensors."""
    return automatic(inputs) if backend == "auto" else backend


def automatic(inputs: Tensor) -> str:
    if inputs.device.type == "cpu" and inputs.dtype in (torch.float32, torch.float64) and _can_compile():
        return "compiled"
    return "triton" if inputs.is_cuda and _has_triton() else "torch"


@lru_cache
def _can_compile() -> bool:
    try:
        build()
    except RuntimeError as error:
        logging.getLogger(__name__).warning("%s Until then: recurrence_backend torch, which is slower.", error)
        return False
    return True


def _has_triton() -> bool:
    try:
        triton_gpu.require()
    except RuntimeError:
        return False
    return True
