"""Where a model runs."""

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


def check_index(gpu: int) -> None:
    """Check that it is -1 or could be the index of a GPU.

    Raises:
        UserError: it is below -1.
    """
    if gpu < -1:
        raise UserError(f"--gpu {gpu}: must be -1 for the CPU, or the index of a GPU")
