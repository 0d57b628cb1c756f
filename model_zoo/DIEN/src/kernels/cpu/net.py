"""Networks of hidden layers and one output, as the compiled functions take them."""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from . import library
from .layout import ACTIVATION_KINDS, Structure

_POINTERS = ctypes.POINTER(ctypes.c_void_p)
PLAIN = ("sigmoid", "relu")
"""Activations without parameters that have gradients."""
_DIFFERENTIABLE = (*PLAIN, "prelu", "dice")


class Elementwise(NamedTuple):
    """Activation with its parameters, (units,) each and contiguous.

    Attributes:
        kind: one of `ACTIVATION_KINDS`.
        slope: slope of PReLU for x < 0, or α of Dice.
        scale: scale of Dice, x (α + (1 - α) σ(scale x + shift)).
        shift: shift of Dice.
    """

    kind: str = "none"
    slope: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None


Activations = str | Sequence[Elementwise]
"""Activation of every hidden layer, `sigmoid` or `relu`, or one per layer, the output's last."""


class Activation(Structure):
    """Structure of net.h."""

    _fields_ = (
        ("kind", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("slope", "scale", "shift")),
        *((name, ctypes.c_void_p) for name in ("kept", "d_kept", "d_scale", "d_shift", "sums")),
        *((name, ctypes.c_int64) for name in ("key", "dropped")),
    )


class Net(Structure):
    """Structure of net.h."""

    _fields_ = (
        ("layers", ctypes.c_int64),
        ("begin", ctypes.c_int64),
        ("end", ctypes.c_int64),
        ("units", ctypes.POINTER(ctypes.c_int64)),
        ("activations", ctypes.POINTER(Activation)),
        ("weights", _POINTERS),
        ("biases", _POINTERS),
        ("elements", ctypes.c_void_p),
    )


class NetGradients(Structure):
    """Structure of net.h."""

    _fields_ = (("weights", _POINTERS), ("biases", _POINTERS))


def make_activation(activation: Elementwise) -> Activation:
    """Return the structure, which holds pointers to the parameters of the activation."""
    return Activation(ACTIVATION_KINDS.index(activation.kind), *map(library.address, activation[1:]))


def make_net(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activations: Sequence[Activation],
    begin: int = -1,
    end: int | None = None,
    elements: Tensor | None = None,
) -> Net:
    """Return the structure, which holds pointers to the contiguous tensors.

    Args:
        weights: one matrix per layer.
        biases: one vector per layer.
        activations: structure of each layer's activation.
        begin: hidden layer with whose kept pre-activations a pass begins; -1: it begins with the input.
        end: hidden layer with whose pre-activations a pass ends; None: it ends with the output.
        elements: element of each step, if there is dropout.
    """
    units = [len(weight) for weight in weights[:-1]]
    return Net(
        len(units),
        begin,
        len(units) if end is None else end,
        library.array_type(ctypes.c_int64, len(units))(*units),
        library.array_type(Activation, len(activations))(*activations),
        library.addresses(weights),
        library.addresses(biases),
        library.address(elements),
    )


def _one_per_layer(activations: Activations, layers: int) -> Sequence[Elementwise]:
    """Return the activation of each layer, the output's last."""
    if isinstance(activations, str):
        return [*[Elementwise(activations)] * (layers - 1), Elementwise()]
    return activations


def slopes_of(activations: Sequence[Elementwise]) -> list[Tensor]:
    """Return the slopes of the activations that have one, in order of layers."""
    return [each.slope for each in activations if each.slope is not None]


def make_gradients(tensors: Sequence[Tensor | None]) -> NetGradients:
    """Return the structure for gradients of weights and then of biases: all, or None."""
    given = [tensor for tensor in tensors if tensor is not None]
    layers = len(given) // 2
    return (
        NetGradients(library.addresses(given[:layers]), library.addresses(given[layers:])) if given else NetGradients()
    )


def check(shapes: dict[str, tuple[Tensor, tuple[int, ...]]], dtype: torch.dtype) -> None:
    """Compare tensors with their required shapes and dtype.

    Raises:
        ValueError: a tensor has the wrong shape or dtype, or is not on a CPU.
    """
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
            raise ValueError(
                f"{name} must be {shape}, {dtype} on a CPU, is {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"
            )


def check_net(
    inputs: int, weights: Sequence[Tensor], biases: Sequence[Tensor], activations: Activations, dtype: torch.dtype
) -> Sequence[Elementwise]:
    """Check that weights, biases and activations form a network with one output.

    Args:
        inputs: size of the input.
        weights: one matrix per layer.
        biases: one vector per layer.
        activations: activation of every hidden layer, or one activation per layer.
        dtype: dtype of all tensors.

    Returns:
        The activation of each layer, the output's last.

    Raises:
        ValueError: they do not form a network, or an activation is unknown.
    """
    if len(weights) < 2 or len(weights) != len(biases):
        raise ValueError(
            "a network must have a weight and a bias for each of its hidden layers, one or more, and for its "
            f"output, has {len(weights)} weights and {len(biases)} biases"
        )
    followed = _one_per_layer(activations, len(weights))
    hidden, known = (followed[:-1], PLAIN) if isinstance(activations, str) else (followed, ACTIVATION_KINDS)
    for each in hidden:
        if each.kind not in known:
            raise ValueError(f"activation={each.kind!r} is unknown; allowed: {', '.join(known)}")
    for i, (weight, bias, activation) in enumerate(zip(weights, biases, followed, strict=True)):
        outputs = len(weight) if weight.dim() and i + 1 < len(weights) else 1
        numbers = {name: number for name, number in activation._asdict().items() if isinstance(number, Tensor)}
        check(
            {f"weights[{i}]": (weight, (outputs, inputs)), f"biases[{i}]": (bias, (outputs,))}
            | {f"{name}[{i}]": (number, (outputs,)) for name, number in numbers.items()},
            dtype,
        )
        inputs = outputs
    return followed


def check_gradients(activations: Sequence[Elementwise]) -> None:
    """Raise ValueError if an activation has no gradient."""
    *hidden, output = activations
    if output.kind != "none" or not all(each.kind in _DIFFERENTIABLE for each in hidden):
        kinds = ", ".join(each.kind for each in activations)
        raise ValueError(
            f"activations {kinds} have no gradients; those of hidden layers that have: {', '.join(_DIFFERENTIABLE)}; "
            "the output has none"
        )
