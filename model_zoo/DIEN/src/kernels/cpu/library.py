"""The compiled library's functions."""

import ctypes
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch  # before the library: both then run on the OpenMP that torch brought
from torch import Tensor

from .compilation import build
from .layout import BAD_ID, BAD_OFFSETS, NO_MEMORY, compare

_NAMES = {torch.float32: "float", torch.float64: "double"}


def address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return array_type(ctypes.c_void_p, len(tensors))(*map(address, tensors))


@lru_cache
def array_type(of: Any, size: int) -> Any:
    """ctypes makes the type anew, which is slow, once nothing refers to it."""
    return of * size


def call(name: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:
    """Runs a function.

    Args:
        name: its name, but for that of `dtype` if this is given.
        arguments: tensors and None as pointers, structures as pointers to them, int as int64_t, the rest as it is.

    Raises:
        RuntimeError: the library cannot be built, or is not what Python takes it for.
        MemoryError: it gets no memory.
        ValueError: offsets that do not rise from 0 to the number of steps.
        IndexError: an id that its table does not have.
    """
    call_of(_library(), name, *arguments, dtype=dtype)


def call_of(library: ctypes.CDLL, name: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:
    """`call` of a library that was `require`d: for what lives in its memory."""
    function = getattr(library, name if dtype is None else f"{name}_{_NAMES[dtype]}")
    status = function(*map(_pass, arguments))
    if status == NO_MEMORY:
        raise MemoryError(f"no memory for {name}")
    if status == BAD_OFFSETS:
        raise ValueError("offsets must rise from 0 to the number of steps")
    if status == BAD_ID:
        raise IndexError("an id that its table does not have")


def require() -> ctypes.CDLL:
    """Builds and loads the library, and returns it.

    Raises:
        RuntimeError: it cannot be built or loaded, or is not what Python takes it for.
    """
    return _library()


def _pass(argument: Any) -> Any:
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(address(argument))
    return argument


def _library() -> ctypes.CDLL:
    return _load(os.environ.get("CXX"), os.environ.get("DIEN_CXXFLAGS"))


@lru_cache
def _load(*_environment: str | None) -> ctypes.CDLL:
    path = build()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:  # of a file system that executes nothing, say
        raise RuntimeError(f"The compiled kernels cannot be loaded: {error}.") from error
    library.layout.restype = ctypes.c_char_p
    compare(library.layout().decode())
    return library
