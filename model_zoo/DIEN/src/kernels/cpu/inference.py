"""Stacks of layers as networks of the compiled functions; by default at inference, with constant statistics."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...layers.activations import Dice
from .net import Elementwise

KINDS: dict[type[nn.Module], str] = {
    nn.Sigmoid: "sigmoid",
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Identity: "none",
}
"""Kinds of activations without parameters."""


class Layers(NamedTuple):
    """Weights, biases and activation of each hidden layer and the output."""

    weights: list[Tensor]
    biases: list[Tensor]
    activations: list[Elementwise]


def elementwise(layer: nn.Module) -> Elementwise | None:
    """Return the activation at inference; None for a layer that the kernels lack.

    Dice uses its running statistics.
    """
    if type(layer) is Dice:
        return dice(layer.alpha, layer.running_mean, layer.running_var, layer.eps)
    if type(layer) is nn.PReLU:
        return Elementwise("prelu", layer.weight.detach())
    return Elementwise(KINDS[type(layer)]) if type(layer) in KINDS else None


@torch.no_grad()
def dice(alpha: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Elementwise:
    """Return Dice with these parameters, each (units,)."""
    scale = (variance + eps).rsqrt()
    return Elementwise("dice", alpha.detach(), scale, -mean * scale)


def as_network(
    layers: Iterable[nn.Module], activation: Callable[[nn.Module], Elementwise | None] = elementwise
) -> Layers | None:
    """Return linear layers as one network, with batch normalisation folded in.

    Each linear layer may be followed by batch normalisation, an activation and dropout.

    Args:
        layers: the layers, in order.
        activation: maps a layer to its activation, like `elementwise`.

    Returns:
        The network; None if it has other layers, or no hidden layer.
    """
    net = Layers([], [], [])
    for layer in layers:
        if type(layer) is nn.Linear and layer.bias is not None:
            net.weights.append(layer.weight)
            net.biases.append(layer.bias)
            net.activations.append(Elementwise())
        elif not net.weights or (not isinstance(layer, nn.Dropout) and net.activations[-1].kind != "none"):
            return None
        elif type(layer) is nn.BatchNorm1d and layer.running_mean is not None:
            net.weights[-1], net.biases[-1] = _folded(net.weights[-1], net.biases[-1], layer)
        elif not isinstance(layer, nn.Dropout):
            if (known := activation(layer)) is None:
                return None
            net.activations[-1] = known
    return net if len(net.weights) > 1 else None


@torch.no_grad()
def _folded(weight: Tensor, bias: Tensor, norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return weight and bias with the following normalisation, computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shifted = (bias.double() - norm.running_mean.double()) * scale
    if norm.bias is not None:
        shifted = shifted + norm.bias.double()
    return (weight.double() * scale.unsqueeze(1)).to(weight.dtype), shifted.to(weight.dtype)
