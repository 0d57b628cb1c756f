"""Auxiliary loss over packed rows as a function of autograd."""

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...layers import batch_scope
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


class AuxiliaryProblem(Structure):
    """Structure of auxiliary.h."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in ("steps", "state_size", "behaviour_size", "negatives", "threads")]
        + [(name, ctypes.c_void_p) for name in ("states", "clicks", "others", "positive_weight", "negative_weight")]
        + [("net", Net)]
    )


class AuxiliaryGradients(Structure):
    """Structure of auxiliary.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("states", "clicks", "others")] + [("net", NetGradients)]


def next_behaviour_loss(
    states: Tensor,
    behaviours: Tensor,
    negatives: Tensor,
    positive_weight: Tensor,
    negative_weight: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    activation: Activations,
    dices: Dices | None = None,
    masking: Masking | None = None,
) -> Tensor:
    """Return the weighted loss of DIEN's eq. (6) (Zhou et al., AAAI 2019).

            sum_i [ w_i softplus(-f(h_{i-1}, e_i)) + sum_k v_ik softplus(f(h_{i-1}, ê_ik)) ]

    where -log σ(f) is softplus(-f), and f is a network on [h, e]. A behaviour of weight 0 is not read and may be NaN.
    The gradients are computed along with the loss, differentiable once; if the loss's own gradient is 1, they are
    passed on without a copy. With equal numbers of threads, runs agree in every bit.

    Args:
        states: (N, H), packed rows, float32 or float64 on a CPU, like all other tensors.
        behaviours: (N, D), e.
        negatives: (N, K, D), ê.
        positive_weight: (N,), w; 0 at the first step of each row, which has no state before it; has no gradient.
        negative_weight: (N, K), v; 0 at the first step of each row; has no gradient.
        weights: one matrix per hidden layer and output, as in `nn.Linear`: (n_1, H + D), (n_2, n_1), ..., (1, n_L).
        biases: (n_1,), (n_2,), ..., (1,).
        activation: activation of every hidden layer, "sigmoid" or "relu", or one per layer; the output has none.
        dices: modules of the hidden layers whose activation is Dice with the statistics of the behaviours that weigh.
        masking: dropout behind hidden layers, if there is any. A step has 1 + K elements: that of the behaviour, then
            those of the negatives.

    Returns:
        A scalar, summed in float64.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, weights do not form a network, or the activation is
            unknown.
        RuntimeError: there is no compiler.
    """
    if states.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"states is {states.dtype}; allowed: torch.float32, torch.float64")
    steps, hidden, size, count = len(states), states.size(-1), behaviours.size(-1), negative_weight.size(-1)
    check(
        {
            "states": (states, (steps, hidden)),
            "behaviours": (behaviours, (steps, size)),
            "negatives": (negatives, (steps, count, size)),
            "positive_weight": (positive_weight, (steps,)),
            "negative_weight": (negative_weight, (steps, count)),
        },
        states.dtype,
    )
    activations = check_net(hidden + size, weights, biases, activation, states.dtype)
    check_gradients(activations)
    learned = (states, behaviours, negatives, *weights, *biases, *slopes_of(activations))
    differentiable = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in learned)
    return _NextBehaviourLoss.apply(
        positive_weight, negative_weight, activations, dices or {}, masking, differentiable, *learned
    )


class _NextBehaviourLoss(Function):
    @staticmethod
    def forward(
        ctx: Any,
        positive_weight: Tensor,
        negative_weight: Tensor,
        activations: Sequence[Elementwise],
        dices: Dices,
        masking: Masking | None,
        differentiable: bool,
        *learned: Tensor,
    ) -> Tensor:
        states, behaviours, negatives, *net = tensors = [tensor.contiguous() for tensor in learned]
        weighing = [positive_weight.contiguous(), negative_weight.contiguous()]
        share = batch_scope.batch().weight
        passes = NetPasses(net, activations, dices, differentiable, share, masking)

        def problem(net: Net) -> AuxiliaryProblem:
            addresses = map(library.address, (states, behaviours, negatives, *weighing))
            sizes = *states.shape, behaviours.size(1), negatives.size(1), torch.get_num_threads()
            return AuxiliaryProblem(*sizes, *addresses, net)

        rows = 0
        if dices:
            blocks = ctypes.c_int64()
            library.call("auxiliary_blocks", problem(passes.last()), ctypes.byref(blocks), dtype=states.dtype)
            passes.keep(blocks.value)
            rows = sum(int(weight.count_nonzero()) for weight in weighing)
        loss = torch.empty((), dtype=torch.float64)
        for each in passes.up(rows, to_output=not differentiable):
            library.call("auxiliary_loss", problem(each), None, loss, dtype=states.dtype)
        if differentiable:
            needed = ctx.needs_input_grad[6:]
            wanted = [*needed[:3], *[any(needed[3:])] * (len(net) - passes.slopes)]
            kept = [torch.empty_like(tensor) if want else None for tensor, want in zip(tensors, wanted, strict=False)]
            gradients = AuxiliaryGradients(*map(library.address, kept[:3]), make_gradients(kept[3:]))
            for each in passes.down():
                library.call("auxiliary_loss", problem(each), gradients, loss, dtype=states.dtype)
            ctx.save_for_backward(*kept, *passes.slope_gradients())
        return loss.to(states.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_loss: Tensor
    ) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        if d_loss != 1:
            gradients = [gradient if gradient is None else gradient * d_loss for gradient in gradients]
        return None, None, None, None, None, None, *gradients
