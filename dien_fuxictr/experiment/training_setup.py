"""The keys that change how a model is trained."""

from typing import Any

from dien_fuxictr.common.errors import UserError

from .training.callbacks import Callback, CallbackList
from .training.mini_batch_aware import MiniBatchAwareRegularizer, take_regularizer
from .training.optimizers import update_sparsely
from .training.weight_average import WeightAverage
from .training.weight_store import WeightStore


def check_combinations(params: dict[str, Any]) -> None:
    """Raise UserError where two of the keys cannot be combined."""
    if params.get("embedding_sharding") == "rows" and params.get("embedding_updates") != "sparse":
        raise UserError("embedding_sharding: rows trains the rows of a batch alone; it needs embedding_updates: sparse")


def prepare_training(store: WeightStore, params: dict[str, Any]) -> CallbackList:
    """Let a compiled model be trained as its configuration says.

    Args:
        store: of the model, before its first step; its optimizer, gradients and regularisation may change.
        params: the configuration.

    Returns:
        What the trainer is to do besides.
    """
    is_aware = params.get("embedding_regularization") == "mini_batch_aware"
    regularizer = take_regularizer(store.model) if is_aware else None
    if params.get("embedding_updates") == "sparse":
        update_sparsely(store)
    parts: list[Callback] = []
    if regularizer:
        parts.append(MiniBatchAwareRegularizer(model=store.model, regularizer=regularizer))
    if params.get("weight_averaging") == "ema":
        parts.append(WeightAverage(store=store, decay=params.get("weight_averaging_decay", 0.999)))
    return CallbackList(parts)
