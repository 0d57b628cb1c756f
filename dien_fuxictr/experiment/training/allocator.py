"""Memory that a training step frees is there for the next one."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what this process frees, so that a step finds the memory of the one before.

    By default it returns large blocks to the kernel at once, which then clears the same pages anew in every step.
    Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)  # all blocks come from the heap
        mallopt(_TRIM_THRESHOLD, -1)  # which never shrinks
