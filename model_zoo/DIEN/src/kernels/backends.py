"""Choice of the code for each operation, with one table per operation.

A kernel for another device is a new entry of its operation's table. A backend without a kernel of its own lists the
kernel of another backend.
"""

import logging
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from ..layers import dropout
from ..layers.packing import Packing
from . import cpu, in_torch, reference, triton
from .cpu import library, native_step_mlp
from .triton.kernel_launch import precision
from .verification import TF32_TOLERANCE, Recurrence, find_fault

Operation = TypeVar("Operation", bound=Callable[..., Any])

Backend = Literal["auto", "reference", "torch", "compiled", "triton"]
BACKENDS = get_args(Backend)[1:]

_NEEDS: dict[str, Callable[[], object]] = {"compiled": library.require, "triton": triton.require}

KINDS: dict[str, Collection[str]] = {
    "reference": reference.KINDS,
    "torch": in_torch.GATES,
    "compiled": cpu.KINDS,
    "triton": triton.KINDS,
}
"""Recurrences that each backend has."""

_FASTEST = {
    ("cpu", torch.float32): "compiled",
    ("cpu", torch.float64): "compiled",
    **{("cuda", dtype): "triton" for dtype in triton.DTYPES},
}
"""Backend that auto selects if the machine has it; otherwise torch."""


def _by_offsets(kernel: Callable[..., tuple[Tensor, Tensor]]) -> Recurrence:
    """Adapt a kernel that finds rows by offsets to the interface of `Recurrence`."""

    def recurrence(inputs: Tensor, packing: Packing, *rest: Any) -> tuple[Tensor, Tensor]:
        return kernel(inputs, packing.offsets, *rest)

    return recurrence


def _as_rows(recurrence: Recurrence) -> Callable[..., Tensor]:
    """Adapt a recurrence to candidates: each is a row with the shared inputs."""

    def evolve_candidates(inputs: Tensor, attention: Tensor, state: Tensor, *rest: Any) -> Tensor:
        steps, candidates = attention.shape
        if not attention.numel():
            return state
        packing = Packing.of_lengths(torch.full((candidates,), steps, device=inputs.device))
        return recurrence(inputs.repeat(candidates, 1), packing, attention.T.flatten(), state, *rest)[1]

    return evolve_candidates


RECURRENCE: dict[str, Recurrence] = {
    "reference": reference.recurrence,
    "torch": in_torch.recurrence,
    "compiled": _by_offsets(cpu.recurrence),
    "triton": _by_offsets(triton.recurrence),
}
"""Signature of `attentional_gru.attentional_gru`, with all arguments."""

EVOLVE_CANDIDATES = {
    "reference": _as_rows(RECURRENCE["reference"]),
    "torch": in_torch.evolve_candidates,
    "compiled": cpu.evolve_candidates,
    "triton": _as_rows(RECURRENCE["triton"]),
}
"""Signature of `attentional_gru.AttentionalGRU.for_candidates`, with all arguments."""

ATTENTION_SCORES = {
    **dict.fromkeys(BACKENDS, in_torch.attention_scores),
    "compiled": native_step_mlp.attention_scores,
}
CANDIDATE_SCORES = {
    **dict.fromkeys(BACKENDS, in_torch.candidate_scores),
    "compiled": native_step_mlp.candidate_scores,
}
NEXT_BEHAVIOUR_LOSS = {
    **dict.fromkeys(BACKENDS, in_torch.next_behaviour_loss),
    "compiled": native_step_mlp.next_behaviour_loss,
}

DROPOUT_MASKS = {**dict.fromkeys(BACKENDS, dropout.dropout_masks), "compiled": cpu.dropout_masks}


def dropout_masks(backend: str, key: int, dropped: int, elements: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    """Return masks of a backend; arguments as in `layers.dropout.dropout_masks`."""
    inputs = torch.empty(0, dtype=dtype, device=elements.device)
    return choose(DROPOUT_MASKS, backend, inputs)(key, dropped, elements, units, dtype)


def choose(
    operation: dict[str, Operation], backend: str, inputs: Tensor, kind: str | None = None, hidden: int = 0
) -> Operation:
    """Return the entry of a backend in the table of an operation.

    Args:
        operation: table of the operation.
        backend: name of an entry, or `auto`: the fastest for these tensors.
        inputs: a tensor of the operation, for its device and dtype.
        kind: kind of a recurrence; `auto` falls back to the next backend if the fastest one lacks it.
        hidden: H of a recurrence: `auto` compares kernels in Triton with torch once before it uses them.

    Raises:
        ValueError: the backend or kind is unknown, or a named backend lacks the kind.
    """
    if kind is not None:
        check_kind(backend, kind)
    if backend == "auto":
        backend = automatic(inputs)
        if kind is not None:
            backend = _with_kind(backend, kind)
            if backend == "triton" and not _agrees(kind, hidden, _dtype(inputs), inputs.device):
                backend = _with_kind("torch", kind)
    if backend not in operation:
        raise ValueError(f"backend={backend!r} is unknown; allowed: auto, {', '.join(operation)}")
    return operation[backend]


def check_kind(backend: str, kind: str) -> None:
    """Raise ValueError if the recurrence is unknown, or a named backend lacks it."""
    if kind not in reference.KINDS:
        raise ValueError(f"kind={kind!r} is unknown; allowed: {', '.join(reference.KINDS)}")
    if backend in KINDS and kind not in KINDS[backend]:
        others = ", ".join(name for name in BACKENDS if kind in KINDS[name])
        raise ValueError(f"recurrence_backend = {backend!r} has no {kind}; those that have it: auto, {others}")


@lru_cache
def _with_kind(fastest: str, kind: str) -> str:
    """Return the fastest backend, or the next one that has the kind and a log line."""
    able = next(name for name in (fastest, "torch", "reference") if kind in KINDS[name])
    if able != fastest:
        logging.warning("recurrence_backend auto is %s for %s, which is slower: %s lacks it", able, kind, fastest)
    return able


def _dtype(inputs: Tensor) -> torch.dtype:
    """Return the dtype that Triton's recurrence computes in, autocast's if it is on."""
    if torch.is_autocast_enabled(inputs.device.type) and inputs.dtype != torch.float64:
        return torch.get_autocast_dtype(inputs.device.type)
    return inputs.dtype


def _agrees(kind: str, hidden: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether Triton's recurrence agrees with torch's on this device."""
    return _agrees_in(precision(dtype), kind, hidden, dtype, device)


# This is what torch.compiler.assume_constant_result sets, without importing the compiler: a graph contains only the
# result.
vars(_agrees)["_dynamo_marked_constant"] = True

_DISTRUSTED: set[torch.dtype] = set()
"""Types in which a Triton kernel has failed or differed."""


@lru_cache
def _agrees_in(products: str, kind: str, hidden: int, dtype: torch.dtype, device: torch.device) -> bool:
    if dtype in _DISTRUSTED:
        return False
    tolerance = TF32_TOLERANCE if products == "tf32" else None
    fault = find_fault(RECURRENCE["triton"], RECURRENCE["torch"], kind, hidden, dtype, device, tolerance)
    if fault:
        _DISTRUSTED.add(dtype)
        logging.warning(
            "recurrence_backend auto is torch here, which is slower. The Triton kernels of %s with H = %d in %s %s",
            *(kind, hidden, dtype, fault),
        )
    return not fault


def automatic(inputs: Tensor) -> str:
    """Return the backend that `auto` selects: the fastest for these tensors."""
    fastest = _FASTEST.get((inputs.device.type, inputs.dtype), "torch")
    return fastest if _has(fastest) else "torch"


def require(backend: str) -> None:
    """Prepare what a backend needs.

    Raises:
        RuntimeError: the machine lacks it.
    """
    if backend in _NEEDS:
        _NEEDS[backend]()


@lru_cache
def _has(backend: str) -> bool:
    try:
        require(backend)
    except RuntimeError as error:
        logging.warning("recurrence_backend auto is torch here, which is slower. %s", error)
        return False
    return True
