"""Dropout whose masks depend on a key and the element, not on the number of threads or processes.

The masks come from a counter-based generator, Philox4x32-10 (Salmon et al., SC 2011). Its key is drawn from torch's
generator for each layer and step. Its counter is the element, such as a row of the batch, and the unit.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import batch_scope
from .packing import Packing

GENERATOR = "Philox4x32-10"
STEPS = 16
"""A unit takes 16 bits of the generator: a rate is rounded to 1 / 2^16."""

Masks = Callable[[int, int, Tensor, int, torch.dtype], Tensor]
"""Function like `dropout_masks`."""

_LOW = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_INCREMENTS = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
_UNITS = 8
"""Units of one counter."""


class Dropout(nn.Dropout):
    """Dropout whose masks depend on the step, the layer, the element and the unit alone.

    On a GPU the masks are torch's.

    Args:
        p: rate, 0 to 1, rounded to 1 / 2^16.
        masks: function that computes the masks.
    """

    def __init__(self, p: float, masks: Masks | None = None) -> None:
        super().__init__(p)
        self._masks = masks or dropout_masks

    @property
    def dropped(self) -> int:
        """Return how many of 2^16 units are dropped, on average."""
        return min(round(self.p * 2**STEPS), 2**STEPS - 1)

    @property
    def draws(self) -> bool:
        """Return whether masks are drawn."""
        return self.training and self.p > 0

    def forward(self, input: Tensor, elements: Tensor | None = None) -> Tensor:
        """Return the input (N, units) with dropped units 0 and the others scaled.

        Args:
            input: (N, units).
            elements: (N,) int64, the element of each row; None: rows are those of the batch.
        """
        if not self.draws or input.is_cuda:
            return super().forward(input)
        if elements is None:
            elements = _element(torch.arange(len(input)))
        return input * self._masks(draw_key(), self.dropped, elements, input.size(1), input.dtype)


def draw_key() -> int:
    """Draw a key from torch's generator, which advances equally in all processes."""
    return int(torch.randint(2**63 - 1, ()))


def step_elements(packing: Packing, numbers: int = 1) -> Tensor:
    """Return the element of each step, (N,) int64, the first one of `numbers` elements of its own."""
    return _element(packing.row) + packing.place * numbers


def _element(row: Tensor) -> Tensor:
    """Return the first element of rows of this process."""
    return batch_scope.batch().first_row + row << 32


def dropout_masks(key: int, dropped: int, elements: Tensor, units: int, dtype: torch.dtype) -> Tensor:
    """Return masks (N, units): 0 for dropped units, for others what keeps the mean.

    Unit u has 16 bits of the counter (element, u // 8): the half u // 4 % 2 of the word u % 4.

    Args:
        key: 0 to 2^63 - 1, of the layer and step.
        dropped: how many of 2^16 units are dropped, on average; less than 2^16.
        elements: (N,) int64, 0 or more.
        units: number of units.
        dtype: dtype of the masks.
    """
    block = torch.arange(-(-units // _UNITS), device=elements.device).expand(len(elements), -1)
    low, high = (part.unsqueeze(1).expand_as(block) for part in (elements & _LOW, elements >> 32))
    words = torch.stack(_philox([low, high, block, torch.zeros_like(block)], key), dim=-1)
    bits = torch.stack([words & 0xFFFF, words >> 16], dim=-2).flatten(1)[:, :units]
    return (bits >= dropped).to(dtype) * (2**STEPS / (2**STEPS - dropped))


def _philox(counter: list[Tensor], key: int) -> list[Tensor]:
    """Return the four words of 32 bits of each counter, four words of any shape."""
    first, second, third, fourth = counter
    keys = [key & _LOW, key >> 32]
    for _ in range(_ROUNDS):
        # int64 products wrap; the bits of their halves are those of the unsigned product.
        one, two = first * _MULTIPLIERS[0], third * _MULTIPLIERS[1]
        first, second, third, fourth = (
            (two >> 32 & _LOW) ^ second ^ keys[0],
            two & _LOW,
            (one >> 32 & _LOW) ^ fourth ^ keys[1],
            one & _LOW,
        )
        keys = [(each + increment) & _LOW for each, increment in zip(keys, _INCREMENTS, strict=True)]
    return [first, second, third, fourth]


def replace_dropout(module: nn.Module, masks: Masks) -> None:
    """Replace each `nn.Dropout` in a module by `Dropout` of the same rate."""
    for parent in [*module.modules()]:
        for name, layer in parent.named_children():
            if type(layer) is nn.Dropout:
                setattr(parent, name, Dropout(layer.p, masks))
