"""Calls of the compiled library's functions."""

import ctypes
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch  # before the library: both then use the OpenMP that comes with torch
from torch import Tensor

from .compilation import build
from .layout import BAD_ID, BAD_OFFSETS, NO_MEMORY, compare

_NAMES = {torch.float32: "float", torch.float64: "double"}


def address(tensor: Tensor | None) -> int | None:
    """Return the address of a tensor's data; None for None."""
    return None if tensor is None else tensor.data_ptr()


def addresses(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    """Return the addresses of the tensors' data as a C array."""
    return array_type(ctypes.c_void_p, len(tensors))(*map(address, tensors))


@lru_cache
def array_type(of: Any, size: int) -> Any:
    """Return an array type of ctypes; the cache keeps it, since creating it is slow."""
    return of * size


def call(name: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:
    """Call a function of the library.

    Args:
        name: its name, without the suffix for `dtype` if this is given.
        arguments: tensors and None are passed as pointers, structures as pointers to them, int as int64_t, the rest
            unchanged.
        dtype: floating-point type of the function.

    Raises:
        RuntimeError: the library cannot be built, or its layout differs from the one in Python.
        MemoryError: there is not enough memory.
        ValueError: offsets do not rise from 0 to the number of steps.
        IndexError: a table lacks an id.
    """
    call_of(_library(), name, *arguments, dtype=dtype)


def call_of(library: ctypes.CDLL, name: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:
    """Call a function of a library that `require` returned.

    An object that lives in the library's memory needs that library.
    """
    function = getattr(library, name if dtype is None else f"{name}_{_NAMES[dtype]}")
    status = function(*map(_pass, arguments))
    if status == NO_MEMORY:
        raise MemoryError(f"no memory for {name}")
    if status == BAD_OFFSETS:
        raise ValueError("offsets must rise from 0 to the number of steps")
    if status == BAD_ID:
        raise IndexError("an id that its table does not have")


def require() -> ctypes.CDLL:
    """Build and load the library, and return it.

    Raises:
        RuntimeError: it cannot be built or loaded, or its layout differs from the one in Python.
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
    except OSError as error:  # for example on a file system that executes nothing
        raise RuntimeError(f"The compiled kernels cannot be loaded: {error}.") from error
    library.layout.restype = ctypes.c_char_p
    compare(library.layout().decode())
    return library
