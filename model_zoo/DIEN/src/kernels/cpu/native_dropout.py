"""Masks of dropout."""

import torch
from torch import Tensor

from . import library


def dropout_masks(key: int, dropped: int, elements: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    """Return masks (N, units); arguments as in `layers.dropout.dropout_masks`, float32 or float64 on a CPU.

    Raises:
        RuntimeError: there is no compiler.
    """
    masks = torch.empty(len(elements), units, dtype=dtype)
    elements = elements.contiguous()
    sizes = len(elements), units, torch.get_num_threads()
    library.call("dropout_masks", key, dropped, *sizes, elements, masks, dtype=dtype)
    return masks
