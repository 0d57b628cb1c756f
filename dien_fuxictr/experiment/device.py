"""The device of a model, and its memory.

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
    """Return the zoo's index of a device: a GPU of this machine, or -1 for the CPU.

    Args:
        gpu: value of the command line.

    Raises:
        UserError: a number below -1, or a GPU that this machine lacks.
    """
    check_index(gpu)
    if gpu == -1:
        return -1
    if not torch.cuda.is_available():
        raise UserError(f"--gpu {gpu}: no CUDA device is available; --gpu -1 runs on the CPU")
    if gpu >= torch.cuda.device_count():
        raise UserError(
            f"--gpu {gpu} does not exist: there are {torch.cuda.device_count()} CUDA devices, numbered from 0"
        )
    return gpu


def devices_of_runs(gpus: Sequence[int], workers: int | None, cluster: str | None) -> list[int]:
    """Return the device of each parallel run; an empty list means the default number.

    Runs are on the CPU then. On a machine without a GPU all runs are on the CPU, with a note.

    Args:
        gpus: GPUs of the command line.
        workers: number of parallel runs of the command line.
        cluster: cluster of the command line, on which an index means any GPU.

    Raises:
        UserError: as `device_index`, except on a machine without a GPU; or the CPU is among several devices.
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
    """Return the GPU of a data-parallel process; -1 is the CPU.

    It is the GPU of the first process plus the rank on the machine.
    """
    return gpu + int(os.environ.get("LOCAL_RANK", "0")) if gpu >= 0 else gpu


def require_devices(gpu: int, processes: int | None) -> None:
    """Check that each of a number of processes of this machine has a GPU.

    Args:
        gpu: GPU of the first one; -1 for the CPU.
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
    """Make glibc keep memory that this process frees, for the next step.

    By default it returns large blocks to the kernel at once, which then clears the same pages again in every step.
    Other C libraries are not changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)  # allocate all blocks on the heap
        mallopt(_TRIM_THRESHOLD, -1)  # never shrink the heap
