"""Memory between the forward and the backward pass, reused by later steps.

Fresh pages are slow.
"""

import contextlib
import mmap
import threading
import weakref

import torch
from torch import Tensor

_SMALL = 1 << 20  # in bytes; malloc itself keeps smaller blocks


class Pool:
    """Pool of memory for tensors.

    Memory returns to the pool once nothing, including graphs of autograd, refers to its tensor.
    """

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._taking = threading.Lock()

    def empty(self, size: int, dtype: torch.dtype) -> Tensor:
        """Return a tensor of (size,) uninitialised numbers."""
        size_bytes = size * dtype.itemsize
        if size_bytes < _SMALL:
            return torch.empty(size, dtype=dtype)
        memory = self._take(size_bytes) or _new(size_bytes)
        lease = memoryview(memory)
        # The tensor's storage keeps the lease. Memory is returned by a single append, since this may interrupt any
        # thread anywhere.
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.frombuffer(lease, dtype=dtype, count=size)

    def _take(self, size_bytes: int) -> mmap.mmap | None:
        with self._taking:
            free = sorted(self._free, key=len)
            fitting = next((memory for memory in free if len(memory) >= size_bytes), None)
            if free:  # if no block is large enough, a new one replaces the smallest
                self._free.remove(fitting or free[0])
            return fitting


def _new(size_bytes: int) -> mmap.mmap:
    # A quarter of reserve, which costs nothing until it is used: the next batch is often slightly longer.
    memory = mmap.mmap(-1, size_bytes + size_bytes // 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # some systems have no huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
