"""Where a model runs."""

import os

import torch

from dien_fuxictr.common.errors import UserError


def device_index(gpu: int, warnings: list[str]) -> int:
    """The zoo's index of a device: that of a GPU that exists, or -1 for the CPU.

    Args:
        gpu: of the command line.
        warnings: gets a line where there is no GPU at all.

    Raises:
        UserError: a number below -1; there are GPUs, but not this one.
    """
    check_index(gpu)
    if gpu == -1:
        return -1
    if not torch.cuda.is_available():
        warnings.append(f"--gpu {gpu}: no CUDA device is available, running on the CPU")
        return -1
    if gpu >= torch.cuda.device_count():
        raise UserError(f"--gpu {gpu}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    return gpu


def device_of_worker(gpu: int) -> int:
    """The GPU of a worker: its number on the machine is added to that of the first one's; -1 is the CPU for all."""
    return gpu + int(os.environ.get("LOCAL_RANK", "0")) if gpu >= 0 else gpu


def require_devices(gpu: int, workers: int | None) -> None:
    """Check that so many workers of this machine have a GPU each, where there are any.

    Args:
        gpu: of the first one; -1 for the CPU.
        workers: how many; None: as many as torchrun has started.

    Raises:
        UserError: there are too few.
    """
    workers = workers or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if gpu >= 0 and workers > 1 and torch.cuda.is_available() and gpu + workers > torch.cuda.device_count():
        raise UserError(
            f"{workers} workers from --gpu {gpu} on need a GPU each, but there are {torch.cuda.device_count()}, "
            "numbered from 0"
        )


def check_index(gpu: int) -> None:
    """Check that it is -1 or could be the index of a GPU.

    Raises:
        UserError: it is below -1.
    """
    if gpu < -1:
        raise UserError(f"--gpu {gpu}: must be -1 for the CPU, or the index of a GPU")
