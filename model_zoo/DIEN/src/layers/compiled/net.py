"""Nets of hidden layers and one output, as the compiled functions take them."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from . import library
from .layout import ACTIVATIONS, Structure

_POINTERS = ctypes.POINTER(ctypes.c_void_p)


class Net(Structure):
    """As in net.h."""

    _fields_ = (
        ("layers", ctypes.c_int64),
        ("activation", ctypes.c_int64),
        ("units", ctypes.POINTER(ctypes.c_int64)),
        ("weights", _POINTERS),
        ("biases", _POINTERS),
    )


class NetGradients(Structure):
    """As in net.h."""

    _fields_ = (("weights", _POINTERS), ("biases", _POINTERS))


def make_net(weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str) -> Net:
    """Refers to the tensors, which are contiguous."""
    units = [len(weight) for weight in weights[:-1]]
    return Net(
        len(units),
        ACTIVATIONS.index(activation),
        library.array_type(ctypes.c_int64, len(units))(*units),
        library.addresses(weights),
        library.addresses(biases),
    )


def make_gradients(tensors: Sequence[Tensor | None]) -> NetGradients:
    """Of weights and then of biases: all, or None."""
    given = [tensor for tensor in tensors if tensor is not None]
    layers = len(given) // 2
    return (
        NetGradients(library.addresses(given[:layers]), library.addresses(given[layers:])) if given else NetGradients()
    )


def check(shapes: dict[str, tuple[Tensor, tuple[int, ...]]], dtype: torch.dtype) -> None:
    """Compares tensors with what they must be.

    Raises:
        ValueError: a tensor of another shape or dtype, or not on a CPU.
    """
    for name, (tensor, shape) in shapes.items():
        if tensor.shape != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
            raise ValueError(
                f"{name} must be {shape}, {dtype} on a CPU, is {tuple(tensor.shape)}, {tensor.dtype} on {tensor.device}"
            )


def check_net(
    inputs: int, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: str, dtype: torch.dtype
) -> None:
    """Compares weights and biases with a net of `inputs` and one output.

    Raises:
        ValueError: they are none, or the activation is unknown.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r} is unknown; allowed: {', '.join(ACTIVATIONS)}")
    if len(weights) < 2 or len(weights) != len(biases):
        raise ValueError(
            "a net has a weight and a bias for each of its hidden layers, one or more, and for its "
            f"output; here are {len(weights)} weights and {len(biases)} biases"
        )
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        outputs = len(weight) if weight.dim() and i + 1 < len(weights) else 1
        check({f"weights[{i}]": (weight, (outputs, inputs)), f"biases[{i}]": (bias, (outputs,))}, dtype)
        inputs = outputs
