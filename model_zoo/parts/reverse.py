"""Histories from the last behaviour back to the first."""

import torch
from torch import Tensor


def reverse_steps(x: Tensor, mask: Tensor) -> Tensor:
    """The real steps of each row, last first; padding stays behind them, as zeros.

    Args:
        x: (B, T, D), real steps first. mask: (B, T) bool.

    Returns:
        (B, T, D).
    """
    last = mask.sum(dim=1, keepdim=True) - 1
    place = (last - torch.arange(mask.size(1), device=mask.device)).clamp(min=0)
    return x.gather(1, place.unsqueeze(-1).expand_as(x)).masked_fill(~mask.unsqueeze(-1), 0)
