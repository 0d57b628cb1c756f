"""Histories in reverse order, the newest behaviour first."""

import torch
from torch import Tensor


def reverse_steps(x: Tensor, mask: Tensor) -> Tensor:
    """Reverse the real steps of each row; padding stays at the end, as zeros.

    Args:
        x: (B, T, D), real steps first.
        mask: (B, T) bool.

    Returns:
        (B, T, D).
    """
    last = mask.sum(dim=1, keepdim=True) - 1
    place = (last - torch.arange(mask.size(1), device=mask.device)).clamp(min=0)
    return x.gather(1, place.unsqueeze(-1).expand_as(x)).masked_fill(~mask.unsqueeze(-1), 0)
