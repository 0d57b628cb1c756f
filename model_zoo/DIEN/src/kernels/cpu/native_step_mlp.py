"""Operations that run a `StepMLP`: in C++ if the kernels have it, else in torch."""

import torch
from torch import Tensor, nn

from ...layers import batch_scope
from ...layers.packing import Packing
from ...layers.step_mlp import StepMLP
from .. import in_torch
from . import auxiliary, native_attention
from .inference import KINDS, Layers, at_inference

_TRAINED = (nn.Sigmoid, nn.ReLU)


def plain(net: StepMLP) -> tuple[list[Tensor], list[Tensor], str] | None:
    """Return weights, biases and activation of a net; None if it has anything else.

    Dropout counts only in training.
    """
    if net.training and any(isinstance(layer, nn.Dropout) for layer in net.layers):
        return None
    linear = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
    others = {type(layer) for layer in net.layers} - {nn.Linear, nn.Dropout}
    if len(others) != 1 or not isinstance(net.layers[-1], nn.Linear) or not others <= set(_TRAINED):
        return None
    return [layer.weight for layer in linear], [layer.bias for layer in linear], KINDS[others.pop()]


def _without_gradients(net: StepMLP) -> Layers | None:
    """Return the net for inference; None in training or if gradients are needed."""
    return None if net.training or torch.is_grad_enabled() else at_inference(net.layers)


def attention_scores(states: Tensor, packing: Packing, query: Tensor, net: StepMLP) -> Tensor:
    """Score each step; arguments and result as in `in_torch.attention_scores`."""
    if kernels := plain(net) or _without_gradients(net):  # autocast gives the query a dtype of its own
        return native_attention.attention_scores(states, packing.offsets, query.to(states.dtype), *kernels)
    return in_torch.attention_scores(states, packing, query, net)


def candidate_scores(states: Tensor, query: Tensor, net: StepMLP) -> Tensor:
    """Score each step; arguments and result as in `in_torch.candidate_scores`."""
    if kernels := plain(net) or _without_gradients(net):
        return native_attention.candidate_scores(states, query.to(states.dtype), *kernels)
    return in_torch.candidate_scores(states, query, net)


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
    if net is None or not (kernels := plain(net)):
        return in_torch.next_behaviour_loss(states, behaviours, packing, negatives, has_negative, net, weight)
    counts = has_negative.any(dim=1) & (packing.place > 0)
    share = counts.to(states.dtype) / batch_scope.batch().divisor(int(counts.sum()))
    if weight is not None:
        share = share * weight
    shares = has_negative * (share / has_negative.sum(dim=1).clamp(min=1)).unsqueeze(1)
    return auxiliary.next_behaviour_loss(states, behaviours, negatives, share, shares, *kernels)
