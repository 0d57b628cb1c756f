"""DIN's attention unit over packed rows as a function of autograd."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from . import library
from .layout import Structure
from .net import Activations, Net, NetGradients, check, check_net, make_gradients, make_net


class AttentionProblem(Structure):
    """Structure of attention.h."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in ("rows", "size", "threads", "shared")]
        + [(name, ctypes.c_void_p) for name in ("offsets", "states", "query")]
        + [("net", Net)]
    )


class AttentionGradients(Structure):
    """Structure of attention.h."""

    _fields_ = (("states", ctypes.c_void_p), ("query", ctypes.c_void_p), ("net", NetGradients))


def attention_scores(
    states: Tensor,
    offsets: Tensor,
    query: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: Activations,
) -> Tensor:
    """Return how well each step matches its row's query, (N,).

    The score is a network on [q, h, q - h, q * h]: the attention unit of Deep Interest Network (Zhou et al., KDD 2018),
    without its softmax. The product with the query in the first layer is computed once per row. The backward pass
    computes the forward pass again, keeps only the arguments and is differentiable once. With equal numbers of threads,
    runs agree in every bit.

    Args:
        states: (N, H), float32 or float64 on a CPU, like all tensors but `offsets`.
        offsets: (B + 1,) int64: row b has the steps offsets[b] to offsets[b + 1].
        query: (B, H).
        weights: one matrix per hidden layer and output, as in `nn.Linear`: (n_1, 4H), (n_2, n_1), ..., (1, n_L).
        biases: (n_1,), (n_2,), ..., (1,).
        activation: activation of every hidden layer, "sigmoid" or "relu"; without gradients one of the kernels'
            activations per layer, the output's last.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, weights do not form a network, or the activation is
            unknown or has no gradients where they are needed.
        RuntimeError: there is no compiler.
    """
    _check(states, query, len(offsets) - 1, weights, biases, activation)
    learned = (states, query, *weights, *biases)
    if not isinstance(activation, str) and torch.is_grad_enabled() and any(each.requires_grad for each in learned):
        raise ValueError("gradients are those of one activation of every hidden layer, sigmoid or relu")
    return _AttentionScores.apply(states, query, offsets, activation, *weights, *biases)


def candidate_scores(
    states: Tensor, query: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], activation: Activations
) -> Tensor:
    """Return how well each step matches each query, (T, B), without gradients.

    Args:
        states: (T, H).
        query: (B, H).
        weights: as in `attention_scores`.
        biases: as in `attention_scores`.
        activation: as in `attention_scores`.

    Raises:
        ValueError: as in `attention_scores`.
        RuntimeError: as in `attention_scores`.
    """
    _check(states, query, len(query), weights, biases, activation)
    # There are more queries than steps: each step is a row, and the queries are the states that all rows share.
    first = of_queries(weights[0])
    scores = states.new_empty(len(states), len(query))
    offsets = torch.arange(len(states) + 1) * len(query)
    tensors = [tensor.contiguous() for tensor in (offsets, query, states, first, *weights[1:], *biases)]
    library.call("attention_forward", _problem(tensors, activation, shared=True), scores, dtype=states.dtype)
    return scores


def of_queries(first: Tensor) -> Tensor:
    """Return the first layer's weights with the roles of query and state exchanged."""
    W_1, W_2, W_3, W_4 = first.chunk(4, dim=1)
    return torch.cat([W_2, W_1, -W_3, W_4], dim=1)


def _check(
    states: Tensor,
    query: Tensor,
    rows: int,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: Activations,
) -> None:
    if states.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"states is {states.dtype}; allowed: torch.float32, torch.float64")
    size = states.size(-1)
    check({"states": (states, (len(states), size)), "query": (query, (rows, size))}, states.dtype)
    check_net(4 * size, weights, biases, activation, states.dtype)


class _AttentionScores(Function):
    @staticmethod
    def forward(
        ctx: Any, states: Tensor, query: Tensor, offsets: Tensor, activation: Activations, *net: Tensor
    ) -> Tensor:
        tensors = [tensor.contiguous() for tensor in (offsets, states, query, *net)]
        library.call("check_offsets", len(query), len(states), tensors[0])
        scores = states.new_empty(len(states))
        library.call("attention_forward", _problem(tensors, activation), scores, dtype=states.dtype)
        ctx.save_for_backward(*tensors)
        ctx.activation = activation
        return scores

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_scores: Tensor
    ) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad
        wanted = [*needed[:2], *[any(needed[4:])] * (len(tensors) - 3)]
        gradients = [
            torch.empty_like(tensor) if want else None for tensor, want in zip(tensors[1:], wanted, strict=True)
        ]
        states, query, *net = gradients
        library.call(
            "attention_backward",
            _problem(tensors, ctx.activation),
            d_scores.contiguous(),
            AttentionGradients(library.address(states), library.address(query), make_gradients(net)),
            dtype=d_scores.dtype,
        )
        return states, query, None, None, *net


def _problem(tensors: Sequence[Tensor], activation: Activations, shared: bool = False) -> AttentionProblem:
    offsets, states, query, *net = tensors
    layers = len(net) // 2
    return AttentionProblem(
        len(query),
        query.size(1),
        torch.get_num_threads(),
        shared,
        *map(library.address, (offsets, states, query)),
        make_net(net[:layers], net[layers:], activation),
    )
