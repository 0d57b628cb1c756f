"""Groups of rows of similar length, for layers that work on padded histories."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# measured on histories of length 9 on average, 100 at most; fewer rows cost calls, more rows cost padding
GROUP_ROWS = 64


def in_length_groups(
    layer: Callable[..., Tensor], mask: Tensor, steps: Sequence[Tensor], rows: Sequence[Tensor] = ()
) -> Tensor:
    """Return the layer's rows, computed in groups of similar length.

    A group is padded to its own longest row instead of the batch's. The layer must treat each row independently. On a
    GPU all rows are one group, since launches cost more than padding.

    Args:
        layer: takes the mask, each of the steps and each of the rows, and returns (B, D).
        mask: (B, T) bool, real steps first.
        steps: each (B, T, ...).
        rows: each (B, ...).

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
