"""The keys that change how a model is trained."""

from typing import Any

from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError

from .training.callbacks import Callback, CallbackList
from .training.mini_batch_aware import MiniBatchAwareRegularizer, take_regularizer
from .training.optimizers import update_sparsely
from .training.weight_average import WeightAverage


def check_combinations(params: dict[str, Any]) -> None:
    """Raises UserError where two of the keys do not go together."""
    if params.get("embedding_sharding") == "rows" and params.get("embedding_updates") != "sparse":
        raise UserError("embedding_sharding: rows trains the rows of a batch alone; it needs embedding_updates: sparse")


def prepare_training(model: BaseModel, params: dict[str, Any]) -> CallbackList:
    """Let a compiled model be trained as its configuration says.

    Args:
        model: before its first step; its optimizer, gradients and regularisation may change.
        params: the configuration.

    Returns:
        What the trainer is to do besides.
    """
    is_aware = params.get("embedding_regularization") == "mini_batch_aware"
    regularizer = take_regularizer(model) if is_aware else None
    if params.get("embedding_updates") == "sparse":
        update_sparsely(model)
    parts: list[Callback] = []
    if regularizer:
        parts.append(MiniBatchAwareRegularizer(model, regularizer))
    if params.get("weight_averaging") == "ema":
        parts.append(WeightAverage(model, params.get("weight_averaging_decay", 0.999)))
    return CallbackList(parts)
