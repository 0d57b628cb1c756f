"""Operations that run a `StepMLP`: in C++ if the kernels have it, else in torch."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...layers import batch_scope
from ...layers.activations import Dice
from ...layers.dropout import Dropout, draw_key
from ...layers.packing import Packing
from ...layers.step_mlp import StepMLP
from .. import in_torch
from . import auxiliary, native_attention
from .inference import KINDS, Layers, as_network, dice
from .net import PLAIN, Elementwise
from .net_passes import Masking


class TrainedLayers(NamedTuple):
    """A network with gradients, as the compiled functions take it.

    Attributes:
        weights, biases: those of each hidden layer and the output.
        activations: activation of each hidden layer, and none of the output.
        dices: hidden layers that are normalised by the batch's statistics.
        masking: dropout behind hidden layers, if there is any.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    activations: list[Elementwise]
    dices: dict[int, Dice]
    masking: Masking | None


def with_gradients(net: StepMLP, elements: Tensor | None) -> TrainedLayers | None:
    """Return the layers of a net; None if the kernels have no gradients of a layer.

    Args:
        net: the net; keys of its dropout are drawn.
        elements: element of each step; None without dropout.
    """
    layers = as_network(net.layers, _with_gradients)
    if layers is None or layers.activations[-1].kind != "none":
        return None
    activations = [layer for layer in net.layers if not isinstance(layer, (nn.Linear, nn.Dropout))]
    dices = {number: each for number, each in enumerate(activations) if isinstance(each, Dice) and net.training}
    return TrainedLayers(*layers, dices, None if elements is None else Masking(_draw_keys(net), elements))


def _draw_keys(net: StepMLP) -> dict[int, tuple[int, int]]:
    """Return the key of each dropout and how many of 2^16 units it drops, by hidden layer."""
    keys: dict[int, tuple[int, int]] = {}
    hidden = -1
    for layer in net.layers:
        hidden += isinstance(layer, nn.Linear)
        if isinstance(layer, Dropout):
            keys[hidden] = draw_key(), layer.dropped
    return keys


def _with_gradients(layer: nn.Module) -> Elementwise | None:
    """Return the activation, its slope with gradients; None for other layers."""
    if type(layer) is Dice:
        return dice(layer.alpha, layer.running_mean, layer.running_var, layer.eps)._replace(slope=layer.alpha)
    if type(layer) is nn.PReLU:
        return Elementwise("prelu", layer.weight)
    kind = KINDS.get(type(layer))
    return Elementwise(kind) if kind in PLAIN else None


def _without_gradients(net: StepMLP) -> Layers | None:
    """Return the net for inference; None in training or if gradients are needed."""
    return None if net.training or torch.is_grad_enabled() else as_network(net.layers)


def attention_scores(states: Tensor, packing: Packing, query: Tensor, net: StepMLP) -> Tensor:
    """Score each step; arguments and result as in `in_torch.attention_scores`."""
    inputs = states, packing.offsets, query.to(states.dtype)  # autocast changes the dtype of the query
    if constant := _without_gradients(net):
        return native_attention.attention_scores(*inputs, *constant)
    if trained := with_gradients(net, net.elements(packing)):
        scores = native_attention.attention_scores(*inputs, *trained)
        if trained.dices:
            batch_scope.batch().tie(scores)
        return scores
    return in_torch.attention_scores(states, packing, query, net)


def candidate_scores(states: Tensor, query: Tensor, net: StepMLP) -> Tensor:
    """Score each step; arguments and result as in `in_torch.candidate_scores`."""
    layers = _without_gradients(net)
    if layers is None:
        return in_torch.candidate_scores(states, query, net)
    return native_attention.candidate_scores(states, query.to(states.dtype), *layers)


def next_behaviour_loss(
    states: Tensor,
    behaviours: Tensor,
    packing: Packing,
    negatives: Tensor,
    has_negative: Tensor,
    net: StepMLP | None,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the loss; arguments as in `in_torch.next_behaviour_loss`."""
    elements = None if net is None else net.elements(packing, 1 + negatives.size(1))
    if net is None or not (layers := with_gradients(net, elements)):
        return in_torch.next_behaviour_loss(states, behaviours, packing, negatives, has_negative, net, weight)
    counts = has_negative.any(dim=1) & (packing.place > 0)
    share = counts.to(states.dtype) / batch_scope.batch().divisor(int(counts.sum()))
    if weight is not None:
        # A weight of 0 would leave a behaviour out of Dice's statistics.
        share = share * (weight.clamp(min=torch.finfo(weight.dtype).tiny ** 0.5) if layers.dices else weight)
    shares = has_negative * (share / has_negative.sum(dim=1).clamp(min=1)).unsqueeze(1)
    return auxiliary.next_behaviour_loss(states, behaviours, negatives, share, shares, *layers)
