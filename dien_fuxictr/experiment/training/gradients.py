"""Clipping, and the cause of a loss or gradient that is not finite."""

from collections.abc import Sequence
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn


def gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the total norm of the gradients, a scalar on the device.

    Sparse gradients are coalesced.
    """
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
        if parameter.grad is not None:
            gradients.append(_values(parameter.grad))
    return nn.utils.get_total_norm(gradients)


def clip_gradients(parameters: Sequence[nn.Parameter], max_norm: float, norm: float) -> None:
    """Scale the gradients to a total norm of at most `max_norm`.

    Unlike `clip_grad_norm_` it accepts sparse gradients.

    Args:
        parameters: parameters with gradients.
        max_norm: largest total norm.
        norm: result of `gradient_norm`; an argument, so that it can be checked before it changes every gradient.
    """
    if norm + 1e-6 <= max_norm:  # all would be multiplied by 1
        return
    total = torch.tensor(norm)
    dense = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            _values(parameter.grad).mul_(max_norm / (total + 1e-6))
        else:
            dense.append(parameter)
    nn.utils.clip_grads_with_norm_(dense, max_norm, total)


def loss_cause(model: BaseModel, return_dict: dict[str, Any], y_true: Tensor) -> str:
    """Return which part of a non-finite loss is not finite, if it can be told."""
    if not _finite(y_true):
        return "a label is not finite"
    if cause := output_cause(return_dict):
        return cause
    regularization = model.regularization_loss()
    if isinstance(regularization, Tensor) and not _finite(regularization):
        return f"the regularisation is {regularization.item()}"
    return "the target loss is not finite"


def output_cause(return_dict: dict[str, Any]) -> str | None:
    """Return which output of a forward pass is not finite; None if all are."""
    for name, value in return_dict.items():
        if isinstance(value, Tensor) and not _finite(value):
            said = {"y_pred": "a prediction is not finite", "aux_loss": f"the auxiliary loss is {value.flatten()[0]}"}
            return said.get(name, f"{name} is not finite")
    return None


def gradient_cause(model: nn.Module) -> str:
    """Return which parameter's gradient is not finite, the first one."""
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not _finite(_values(parameter.grad)):
            return f"the gradient of {name} is not finite"
    return "the norm of the gradient overflows"


def _values(gradient: Tensor) -> Tensor:
    return gradient._values() if gradient.is_sparse else gradient


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
