"""One optimizer step, stopped by a non-finite loss or gradient before any change."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from dien_fuxictr.common.errors import TrainingError, UserError

from .gradients import clip_gradients, gradient_cause, loss_cause, output_cause
from .optimizers import JointOptimizer
from .weight_store import WeightStore


def clip_groups(model: BaseModel) -> list[list[nn.Parameter]]:
    """Return the parameters in groups that are clipped separately.

    A model may name the groups; by default there is one.
    """
    groups = getattr(model, "clip_groups", None)
    return [list(model.parameters())] if groups is None else groups()


def _check_output(model: BaseModel, result: Any, y_true: Tensor) -> None:
    """Raise UserError if the forward pass does not return a prediction of each row."""
    predicted = result.get("y_pred") if isinstance(result, dict) else None
    if not isinstance(predicted, Tensor) or predicted.shape != y_true.shape:
        found = type(result).__name__ if predicted is None else f"y_pred {tuple(getattr(predicted, 'shape', ()))}"
        raise UserError(
            f"forward of model {type(model).__name__} returns {found}; it must return a dict with y_pred "
            f"{tuple(y_true.shape)}"
        )


def take_step(
    store: WeightStore,
    groups: Sequence[Sequence[nn.Parameter]],
    batch: dict[str, Tensor],
    max_norm: float,
    where: str,
) -> dict[str, float]:
    """Run forward, backward and clipping, and a step of the model's optimizer.

    Args:
        store: store of a model in training mode.
        groups: parameters of the model, see `clip_groups`.
        batch: with labels.
        max_norm: clip norm of each group's gradient.
        where: in the training this is, for messages.

    Returns:
        `train`, the loss; `target`, its part of the predictions; `gradient_norm`, of all groups, before clipping;
        `auxiliary`, where the model has one.

    Raises:
        TrainingError: a loss or gradient that is not finite; the optimizer has not changed the weights.
        UserError: the forward pass returns no prediction of each row.
    """

    def not_finite(what: str, cause: str) -> TrainingError:
        return TrainingError(f"the {what} is not finite at {where}: {cause}; the optimizer has not changed the weights")

    model = store.model
    model.optimizer.zero_grad()
    shard = store.group.shard(batch, len(batch[model.feature_map.labels[0]]))
    try:
        with shard.computed():
            return_dict: dict[str, Any] = model.forward(shard.batch)
            y_true = model.get_labels(shard.batch)
            _check_output(model, return_dict, y_true)
            try:
                loss = model.compute_loss(return_dict, y_true)
            except RuntimeError as error:  # binary_cross_entropy on the CPU refuses a NaN prediction itself
                if output_cause(return_dict) is None:
                    raise
                raise not_finite("loss", loss_cause(model, return_dict, y_true)) from error
        shard.backward(loss, [p for p in model.parameters() if not store.is_shard(p)])
        if isinstance(model.optimizer, JointOptimizer):
            model.optimizer.finish_gradients()
        target = model.loss_fn(return_dict["y_pred"].detach(), y_true, reduction="mean")
        watched = {"train": loss, "target": target}
        if isinstance(return_dict.get("aux_loss"), Tensor):  # models of the zoo have 0 there when it is off
            watched["auxiliary"] = return_dict["aux_loss"]
        # The one host synchronisation of the step.
        means = shard.mean(torch.stack([value.detach().double() for value in watched.values()]))
        norms = [store.gradient_norm(parameters) for parameters in groups]
        values = torch.stack([*means, *(norm.double() for norm in norms)]).tolist()
    except RuntimeError as error:
        if "device-side assert" not in str(error):
            raise
        cause = (
            "an assertion failed on the GPU: a prediction that is not finite, or an id beyond its embedding "
            "table (--gpu -1 tells which)"
        )
        raise not_finite("loss", cause) from error
    losses, norms = dict(zip(watched, values, strict=False)), values[len(watched) :]
    losses["gradient_norm"] = math.hypot(*norms)
    if not math.isfinite(losses["train"]):
        raise not_finite("loss", loss_cause(model, return_dict, y_true))
    if not math.isfinite(losses["gradient_norm"]):
        raise not_finite("gradient", gradient_cause(model))
    for parameters, norm in zip(groups, norms, strict=True):
        clip_gradients(parameters, max_norm, norm)
    model.optimizer.step()
    return losses
