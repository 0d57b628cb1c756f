"""Where a model runs, and its memory there.

Not run yet: training on a GPU.
"""

import ctypes
import os
import sys
from collections.abc import Sequence

import torch

from dien_fuxictr.common.errors import UserError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h


def device_index(gpu: int) -> int:
    """Return the zoo's index of a device: that of a GPU of this machine, or -1 for the CPU.

    Args:
        gpu: of the command line.

    Raises:
        UserError: a number below -1, or a GPU that this machine does not have.
    """
    check_index(gpu)
    if gpu == -1:
        return -1
    if not torch.cuda.is_available():
        raise UserError(f"--gpu {gpu}: no CUDA device is available; --gpu -1 runs on the CPU")
    if gpu >= torch.cuda.device_count():
        raise UserError(f"--gpu {gpu}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return gpu


def devices_of_runs(gpus: Sequence[int], workers: int | None, cluster: str | None) -> list[int]:
    """Return the device of each of the runs that go on at a time; none: as many on the CPU as the default is.

    On a machine without a GPU all are on the CPU, with a note.

    Args:
        gpus, workers: of the command line.
        cluster: of the command line; there any GPU stands for each index.

    Raises:
        UserError: as `device_index`, but for a machine without a GPU; the CPU among several devices.
    """
    for gpu in gpus:
        check_index(gpu)
    listed = " ".join(map(str, gpus))
    if len(gpus) > 1 and -1 in gpus:
        raise UserError(f"--gpu {listed}: must be GPUs only; on the CPU, --workers {len(gpus)} runs as many at a time")
    if workers or cluster is not None:
        return [-1] * workers if workers else list(gpus)
    if max(gpus, default=-1) >= 0 and not torch.cuda.is_available():
        print(f"note: --gpu {listed}: no CUDA device is available, all runs are on the CPU", file=sys.stderr)
        return [-1] * len(gpus)
    return [device_index(gpu) for gpu in gpus]


def device_of_process(gpu: int) -> int:
    """Return the GPU of a data-parallel process: that of the first one plus its rank on the machine; -1 is the CPU."""
    return gpu + int(os.environ.get("LOCAL_RANK", "0")) if gpu >= 0 else gpu


def require_devices(gpu: int, processes: int | None) -> None:
    """Check that so many processes of this machine have a GPU each.

    Args:
        gpu: of the first one; -1 for the CPU.
        processes: how many; None: as many as torchrun has started.

    Raises:
        UserError: there are too few.
    """
    device_index(gpu)
    processes = processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpu >= 0 and processes > 1 and gpu + processes > torch.cuda.device_count():
        raise UserError(
            f"{processes} processes from --gpu {gpu} on need a GPU each, but there are {torch.cuda.device_count()}, "
            "numbered from 0"
        )


def check_index(gpu: int) -> None:
    """Check that it is -1 or could be the index of a GPU.

    Raises:
        UserError: it is below -1.
    """
    if gpu < -1:
        raise UserError(f"--gpu {gpu}: must be -1 for the CPU, or the index of a GPU")


def keep_freed_memory() -> None:
    """Let glibc keep what this process frees, so that a step finds the memory of the one before.

    By default it returns large blocks to the kernel at once, which then clears the same pages anew in every step.
    Nothing happens with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)  # all blocks come from the heap
        mallopt(_TRIM_THRESHOLD, -1)  # which never shrinks
