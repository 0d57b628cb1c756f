"""What the keys of training and evaluation may hold, where the zoo that reads them declares no types."""

import math
from functools import lru_cache
from typing import Annotated, Any, Literal

import torch
from fuxictr.pytorch.torch_utils import get_loss, get_optimizer
from torch import nn

from dien_fuxictr.common.key_types import POSITIVE, RATE, described, must, whole

_COUNT = whole(1)
_LOSS_ALIASES = ("bce", "binary_crossentropy")


@lru_cache
def _trains(optimizer: str) -> bool:
    """Whether the zoo can make the optimizer, and take a step with a dense gradient and nothing else."""
    if optimizer.lower() == "adam":
        return True  # to make one takes torch seconds, the first time
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    try:
        made = get_optimizer(optimizer, parameters, 1e-3)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        made.step()
    except Exception:  # whatever stops it, training could not use it
        return False
    return True


@lru_cache
def _is_loss(name: str) -> bool:
    """Whether the zoo's call of it is a number that is lower for right predictions than for wrong ones."""
    if name not in _LOSS_ALIASES and not hasattr(nn.functional, name):
        return False  # the zoo would evaluate it
    labels, right = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [0.9]])
    try:
        call = get_loss(name)
        good, bad = (float(call(scores, labels, reduction="mean")) for scores in (right, 1 - right))
    except Exception:  # functions of other arguments stop in many ways
        return False
    return good < bad


TRAINING: dict[str, Any] = {
    "model": described(str, "the name of a class in model_zoo/", must(str.isidentifier)),
    "model_root": str,
    "zoo": Annotated[str | None, "the folder of a FuxiCTR checkout"],
    "seed": whole(0, 2**32 - 1),
    "verbose": whole(0),
    "num_workers": whole(0, 1024),
    "num_threads": whole(1, 4096) | None,
    "debug_mode": bool,
    "task": Literal["binary_classification", "regression"],
    "loss": described(
        str, "binary_crossentropy or the name of a loss in torch.nn.functional, e.g. mse_loss", must(_is_loss)
    ),
    "optimizer": described(
        str, "adam or the name of an optimizer in torch.optim that needs no more than gradients", must(_trains)
    ),
    "max_gradient_norm": POSITIVE,
    "embedding_updates": Literal["dense", "sparse"],
    "embedding_sharding": Literal["none", "rows"],
    "aux_negative_scope": Literal["batch", "shard"],
    "sync_batch_norm": bool,
    "embedding_regularization": Literal["table", "mini_batch_aware"],
    "weight_averaging": Literal["none", "ema"],
    "weight_averaging_decay": RATE,
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "buffer_size": _COUNT,
    "shuffle": bool,
    "trim_histories": bool,
    "bucket_by_length": bool,
    "metrics": described(list[str], "a list of metrics, e.g. [AUC, gAUC, logloss]", must(bool)),
    "monitor": described(
        str | dict[str, float],
        "a metric or a mapping of metrics to weights, e.g. {AUC: 1, logloss: -1}",
        must(lambda monitor: bool(monitor) and (isinstance(monitor, str) or all(map(math.isfinite, monitor.values())))),
    ),
    "monitor_mode": Literal["max", "min"],
    "early_stop_patience": _COUNT,
    "eval_steps": _COUNT | None,
    "save_best_only": bool,
    "reduce_lr_on_plateau": bool,
    "use_features": Annotated[list[str] | tuple[str, ...] | None, "a list of features, or null for all"],
    "feature_specs": Annotated[list[dict[str, Any]] | None, "a list, each a mapping with name, or null"],
    "group_id": described(str | None, "the name of a feature, or null", must(lambda name: name != "")),
}
"""Keys of `BaseModel.fit`, the zoo's loaders and runner, and of this project's trainer and loader."""
