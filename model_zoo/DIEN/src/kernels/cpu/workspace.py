"""Memory that lasts from the forward to the backward pass, used again by the next step: fresh pages are slow."""

import contextlib
import mmap
import threading
import weakref

import torch
from torch import Tensor

_SMALL = 1 << 20  # bytes; malloc itself keeps what is smaller


class Pool:
    """Hands out tensors; their memory comes back once nothing, no graph of autograd either, refers to them."""

    def __init__(self) -> None:
        self._free: list[mmap.mmap] = []
        self._taking = threading.Lock()

    def empty(self, size: int, dtype: torch.dtype) -> Tensor:
        """(size,) numbers of any value."""
        size_bytes = size * dtype.itemsize
        if size_bytes < _SMALL:
            return torch.empty(size, dtype=dtype)
        memory = self._take(size_bytes) or _new(size_bytes)
        lease = memoryview(memory)
        # The tensor's storage keeps the lease. Giving back is one append: it may interrupt any thread anywhere.
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return torch.frombuffer(lease, dtype=dtype, count=size)

    def _take(self, size_bytes: int) -> mmap.mmap | None:
        with self._taking:
            free = sorted(self._free, key=len)
            fitting = next((memory for memory in free if len(memory) >= size_bytes), None)
            if free:  # where none fits, a new one takes the smallest one's place
                self._free.remove(fitting or free[0])
            return fitting


def _new(size_bytes: int) -> mmap.mmap:
    # A fourth more, which costs nothing before it is touched: the next batch is often a little longer.
    memory = mmap.mmap(-1, size_bytes + size_bytes // 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # systems without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
