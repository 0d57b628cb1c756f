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
from .net import (
    Activations,
    Elementwise,
    Net,
    NetGradients,
    check,
    check_gradients,
    check_net,
    make_gradients,
    slopes_of,
)
from .net_passes import Dices, Masking, NetPasses


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
    dices: Dices | None = None,
    masking: Masking | None = None,
) -> Tensor:
    """Return how well each step matches its row's query, (N,).

    The score is a network on [q, h, q - h, q * h]: the attention unit of Deep Interest Network (Zhou et al., KDD 2018),
    without its softmax. The product with the query in the first layer is computed once per row. The backward pass
    computes the forward pass again, keeps only the arguments and the pre-activations of `dices`, and is differentiable
    once. With equal numbers of threads, runs agree in every bit.

    Args:
        states: (N, H), float32 or float64 on a CPU, like all tensors but `offsets`.
        offsets: (B + 1,) int64: row b has the steps offsets[b] to offsets[b + 1].
        query: (B, H).
        weights: one matrix per hidden layer and output, as in `nn.Linear`: (n_1, 4H), (n_2, n_1), ..., (1, n_L).
        biases: (n_1,), (n_2,), ..., (1,).
        activation: activation of every hidden layer, "sigmoid" or "relu", or one per layer, the output's last.
        dices: modules of the hidden layers whose activation is Dice with the statistics of this batch.
        masking: dropout behind hidden layers, if there is any.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, weights do not form a network, or an activation is
            unknown or has no gradient where gradients are needed.
        RuntimeError: there is no compiler.
    """
    activations = _check(states, query, len(offsets) - 1, weights, biases, activation)
    learned = (states, query, *weights, *biases, *slopes_of(activations))
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in learned)
    if differentiable:
        check_gradients(activations)
    return _AttentionScores.apply(offsets, activations, dices or {}, masking, differentiable, *learned)


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
    activations = _check(states, query, len(query), weights, biases, activation)
    # There are more queries than steps: each step is a row, and the queries are the states that all rows share.
    first = of_queries(weights[0])
    scores = states.new_empty(len(states), len(query))
    offsets = torch.arange(len(states) + 1) * len(query)
    learned = query, states, first, *weights[1:], *biases, *slopes_of(activations)
    tensors = [tensor.contiguous() for tensor in (offsets, *learned)]
    passes = NetPasses(tensors[3:], activations, {}, differentiable=False)
    library.call("attention_forward", _problem(tensors, passes.last(), shared=True), scores, dtype=states.dtype)
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
) -> Sequence[Elementwise]:
    if states.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"states is {states.dtype}; allowed: torch.float32, torch.float64")
    size = states.size(-1)
    check({"states": (states, (len(states), size)), "query": (query, (rows, size))}, states.dtype)
    return check_net(4 * size, weights, biases, activation, states.dtype)


class _AttentionScores(Function):
    @staticmethod
    def forward(
        ctx: Any,
        offsets: Tensor,
        activations: Sequence[Elementwise],
        dices: Dices,
        masking: Masking | None,
        differentiable: bool,
        *learned: Tensor,
    ) -> Tensor:
        tensors = [tensor.contiguous() for tensor in (offsets, *learned)]
        offsets, states, query, *net = tensors
        dtype = states.dtype
        library.call("check_offsets", len(query), len(states), offsets)
        scores = states.new_empty(len(states))
        passes = NetPasses(net, activations, dices, differentiable, masking=masking)
        if dices:
            blocks = ctypes.c_int64()
            library.call("attention_blocks", _problem(tensors, passes.last()), ctypes.byref(blocks), dtype=dtype)
            passes.keep(blocks.value)
        for each in passes.up(len(states)):
            library.call("attention_forward", _problem(tensors, each), scores, dtype=dtype)
        if differentiable:
            ctx.save_for_backward(*tensors)
            ctx.passes = passes
        return scores

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_scores: Tensor
    ) -> tuple[Tensor | None, ...]:
        tensors, passes = ctx.saved_tensors, ctx.passes
        learned = tensors[1 : len(tensors) - passes.slopes]
        needed = ctx.needs_input_grad[5:]
        wanted = [*needed[:2], *[any(needed[2:])] * (len(learned) - 2)]
        gradients = [torch.empty_like(tensor) if want else None for tensor, want in zip(learned, wanted, strict=True)]
        states, query, *net = gradients
        outcome = AttentionGradients(library.address(states), library.address(query), make_gradients(net))
        d_scores = d_scores.contiguous()
        for each in passes.down():
            library.call("attention_backward", _problem(tensors, each), d_scores, outcome, dtype=d_scores.dtype)
        return None, None, None, None, None, *gradients, *passes.slope_gradients()


def _problem(tensors: Sequence[Tensor], net: Net, shared: bool = False) -> AttentionProblem:
    offsets, states, query = tensors[:3]
    addresses = map(library.address, (offsets, states, query))
    return AttentionProblem(len(query), query.size(1), torch.get_num_threads(), shared, *addresses, net)
