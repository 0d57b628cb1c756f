"""Rows of like length together, for layers that work on padded histories."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

GROUP_ROWS = 64  # measured on histories of 9 on average, 100 at most; fewer cost calls, more cost padding


def in_length_groups(
    layer: Callable[..., Tensor], mask: Tensor, steps: Sequence[Tensor], rows: Sequence[Tensor] = ()
) -> Tensor:
    """The layer's rows, computed in groups that are as long as their own longest row, not the batch's.

    The layer must treat each row by itself. On a GPU all rows are one group: there launches cost more than padding.

    Args:
        layer: takes the mask, each of the steps and each of the rows, and returns (B, D).
        mask: (B, T) bool, real steps first.
        steps: each (B, T, ...). rows: each (B, ...).

    Returns:
        (B, D).
    """
    if mask.is_cuda or len(mask) <= GROUP_ROWS:
        return layer(mask, *steps, *rows)
    lengths, order = mask.sum(dim=1).sort()
    groups = order.split(GROUP_ROWS)
    longest = [max(1, int(part[-1])) for part in lengths.split(GROUP_ROWS)]
    outputs = []
    for group, length in zip(groups, longest, strict=True):
        cut = [x[group, :length] for x in (mask, *steps)]
        outputs.append(layer(*cut, *(x[group] for x in rows)))
    return torch.cat(outputs)[order.argsort()]
