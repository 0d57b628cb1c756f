"""Keys that change how a model is trained."""

from dien_fuxictr.common.errors import UserError

from .configuration.training_options import TrainingOptions
from .training.callbacks import Callback, CallbackList
from .training.mini_batch_aware import MiniBatchAwareRegularizer, take_regularizer
from .training.optimizers import update_sparsely
from .training.weight_average import WeightAverage
from .training.weight_store import WeightStore


def check_combinations(options: TrainingOptions) -> None:
    """Raise UserError where two of the keys cannot be combined."""
    if options.embedding_sharding == "rows" and options.embedding_updates != "sparse":
        raise UserError(
            "embedding_sharding = rows needs embedding_updates = sparse: only the rows of a batch are trained"
        )


def prepare_training(store: WeightStore, options: TrainingOptions) -> CallbackList:
    """Let a compiled model be trained as its configuration says.

    Args:
        store: store of the model, before its first step; its optimizer, gradients and regularisation may change.
        options: the configuration's.

    Returns:
        What the trainer is to do besides.
    """
    is_aware = options.embedding_regularization == "mini_batch_aware"
    regularizer = take_regularizer(store.model) if is_aware else None
    if options.embedding_updates == "sparse":
        update_sparsely(store)
    parts: list[Callback] = []
    if regularizer:
        parts.append(MiniBatchAwareRegularizer(model=store.model, regularizer=regularizer))
    if options.weight_averaging == "ema":
        parts.append(WeightAverage(store=store, decay=options.weight_averaging_decay))
    return CallbackList(parts)
