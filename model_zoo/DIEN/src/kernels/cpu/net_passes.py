"""Passes of a network in training, between which Dice needs sums over all rows of the batch.

A pass begins with the input, or with the pre-activations that Dice normalises, and ends with those of the next Dice, or
with the output. A network without Dice has a single pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ...layers import batch_scope
from ...layers.activations import Dice
from . import library
from .layout import LANES
from .net import Elementwise, Net, make_activation, make_net
from .workspace import Pool

_pool = Pool()

Dices = Mapping[int, Dice]
"""Hidden layers that are normalised by the batch's statistics."""


class Masking(NamedTuple):
    """Dropout behind hidden layers.

    Attributes:
        layers: key of the masks, and how many of 2^16 units are dropped, by hidden layer.
        elements: (N,) int64, element of each step.
    """

    layers: Mapping[int, tuple[int, int]]
    elements: Tensor


class NetPasses:
    """The passes of one network over one batch.

    Args:
        net: one weight per layer, one bias per layer, and the slope of each activation that has one, all contiguous.
        activations: activation of each layer, the output's last; its slopes are those of `net`.
        dices: hidden layers that are normalised by the batch's statistics.
        differentiable: whether backward passes follow.
        share: weight by which the loss's gradients are multiplied later; 1 if they have been multiplied already.
        masking: dropout, if there is any.

    Attributes:
        slopes: number of slopes.
    """

    def __init__(
        self,
        net: Sequence[Tensor],
        activations: Sequence[Elementwise],
        dices: Dices,
        differentiable: bool,
        share: float = 1.0,
        masking: Masking | None = None,
    ) -> None:
        layers = len(activations)
        self._weights, self._biases = net[:layers], net[layers : 2 * layers]
        self.slopes = len(net) - 2 * layers
        slopes = iter(net[2 * layers :])
        self._activations = [each if each.slope is None else each._replace(slope=next(slopes)) for each in activations]
        self._dices, self._differentiable, self._share = dices, differentiable, share
        self._batch = batch_scope.batch()  # as it is now: backward passes run when it is another one
        places = [-1, *sorted(dices), layers - 1]
        self._passes = [*pairwise(places)]
        self._structures = [make_activation(each) for each in self._activations]
        self._elements = masking.elements.contiguous() if masking else None
        for layer, (key, dropped) in masking.layers.items() if masking else ():
            self._structures[layer].key, self._structures[layer].dropped = key, dropped
        self._sums: dict[int, Tensor] = {}
        self._tensors: list[Tensor] = []  # what the structures point to
        self._statistics: dict[int, tuple[float, Tensor, Tensor]] = {}
        for layer, each in enumerate(self._activations):
            if each.slope is not None and (differentiable or layer in dices):
                self._sums[layer] = torch.zeros(3, len(each.slope), dtype=torch.float64)
                self._structures[layer].sums = library.address(self._sums[layer])

    def keep(self, blocks: int) -> None:
        """Take memory for the pre-activations of so many blocks, and for their gradients."""
        for layer in self._dices:
            slope = self._activations[layer].slope
            assert slope is not None
            size = blocks * len(slope) * LANES
            structure = self._structures[layer]
            structure.kept = self._address(_pool.empty(size, slope.dtype))
            if self._differentiable:
                structure.d_kept = self._address(_pool.empty(size, slope.dtype))

    def up(self, rows: int, to_output: bool = True) -> Iterator[Net]:
        """Yield the network for each forward pass; take the statistics that it sums.

        Args:
            rows: number of rows that count.
            to_output: whether to yield the last pass.
        """
        for begin, end in self._passes[:-1]:
            yield self._net(begin, end)
            self._normalise(end, rows)
        if to_output:
            yield self.last()

    def last(self) -> Net:
        """Return the network for the pass to the output."""
        return self._net(*self._passes[-1])

    def down(self) -> Iterator[Net]:
        """Yield the network for each backward pass; the first one begins with the last forward pass."""
        for sums in self._sums.values():
            sums.zero_()
        for begin, end in reversed(self._passes):
            yield self._net(begin, end)
            if begin >= 0:
                self._add_share_of_statistics(begin)

    def slope_gradients(self) -> list[Tensor]:
        """Return the gradients of the slopes after all backward passes."""
        return [sums[2].to(self._biases[layer].dtype, copy=True) for layer, sums in sorted(self._sums.items())]

    def _net(self, begin: int, end: int) -> Net:
        return make_net(self._weights, self._biases, self._structures, begin, end, self._elements)

    def _address(self, tensor: Tensor) -> int | None:
        self._tensors.append(tensor)
        return library.address(tensor)

    def _normalise(self, layer: int, rows: int) -> None:
        """Normalise by the statistics of the sums."""
        dice, (total, square, _) = self._dices[layer], self._sums[layer]
        rows_of_batch, mean, variance = dice.take_statistics(rows, total, square)
        scale = (variance + dice.eps).rsqrt()
        self._statistics[layer] = rows_of_batch, mean, scale
        structure, dtype = self._structures[layer], dice.alpha.dtype
        structure.scale = self._address(scale.to(dtype))
        structure.shift = self._address((-mean * scale).to(dtype))

    def _add_share_of_statistics(self, layer: int) -> None:
        """Set what the statistics of a layer add to the gradients of its pre-activations x.

        With x' = scale (x - mean) and its gradients g, each x' also depends on x by the mean and the variance, which
        adds -scale (mean(g) + x' mean(g x')).
        """
        rows, mean, scale = self._statistics[layer]
        d_scale, d_shift = torch.zeros_like(mean), torch.zeros_like(mean)
        if rows:
            sums = self._batch.summed(self._share * self._sums[layer][:2]) / self._share
            of_normal, of_product = sums / rows
            d_scale = -scale.square() * (of_product - mean * of_normal) * scale
            d_shift = -scale * of_normal - d_scale * mean
        structure, dtype = self._structures[layer], self._dices[layer].alpha.dtype
        structure.d_scale = self._address(d_scale.to(dtype))
        structure.d_shift = self._address(d_shift.to(dtype))
