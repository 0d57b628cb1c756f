"""Memory that a training step frees is there for the next one."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_BLOCK = 32 * 2**20  # that glibc allows there


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB in this process; no other C library has an effect of it.

    By default it returns large ones to the kernel at once, which then clears the same pages anew in every step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
