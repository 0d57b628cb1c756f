"""Clipping, and the cause of a loss or gradient that is not finite."""

from collections.abc import Iterable
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale the gradients to a total norm of at most `max_norm`; as `clip_grad_norm_`, but sparse gradients work too.

    Returns:
        The norm before clipping, a scalar still on the device.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    sparse = [parameter for parameter in with_gradient if parameter.grad.is_sparse]
    dense = [parameter for parameter in with_gradient if not parameter.grad.is_sparse]
    for parameter in sparse:
        parameter.grad = parameter.grad.coalesce()
    sparse_values = [parameter.grad._values() for parameter in sparse]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in dense] + sparse_values)
    nn.utils.clip_grads_with_norm_(dense, max_norm, norm)
    for values in sparse_values:
        values.mul_(torch.clamp(max_norm / (norm + 1e-6), max=1.0))
    return norm


def loss_cause(model: BaseModel, return_dict: dict[str, Any], y_true: Tensor) -> str:
    """Which part of a non-finite loss is not finite, as far as it can be told."""
    if not _finite(y_true):
        return "a label is not finite"
    if not _finite(return_dict["y_pred"]):
        return "a prediction is not finite"
    if "aux_loss" in return_dict and not _finite(return_dict["aux_loss"]):
        return f"the auxiliary loss is {float(return_dict['aux_loss'])}"
    regularization = model.regularization_loss()
    if isinstance(regularization, Tensor) and not _finite(regularization):
        return f"the regularisation is {float(regularization)}"
    return "the target loss is not finite"


def gradient_cause(model: nn.Module) -> str:
    """The first parameter whose gradient is not finite."""
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        if gradient is not None and not _finite(gradient._values() if gradient.is_sparse else gradient):
            return f"the gradient of {name} is not finite"
    return "the norm of the gradient overflows"


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
