"""Declare each key of training and evaluation once: type, meaning and default."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal, get_type_hints

import torch
from fuxictr.pytorch.torch_utils import get_loss, get_optimizer
from torch import nn

from model_zoo.DIEN.src.keywords import Rate
from model_zoo.DIEN.src.validation import Check, Help, Range

from .config import DEFAULTS

_LOSS_ALIASES = ("bce", "binary_crossentropy")


@lru_cache
def _trains(optimizer: str) -> bool:
    """Return whether the zoo can build the optimizer and step with a dense gradient."""
    if optimizer.lower() == "adam":
        return True  # building one takes torch seconds, the first time
    parameters = [nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))]
    try:
        made = get_optimizer(optimizer, parameters, 1e-3)
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        made.step()
    except Exception:  # any error means that training could not use it
        return False
    return True


@lru_cache
def _is_loss(name: str) -> bool:
    """Return whether the zoo can use the loss.

    Its value must be a number that is lower for right predictions than for wrong ones.
    """
    if name not in _LOSS_ALIASES and not hasattr(nn.functional, name):
        return False  # the zoo would evaluate it as code
    labels, right = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.1], [0.9]])
    try:
        call = get_loss(name)
        good, bad = (float(call(scores, labels, reduction="mean")) for scores in (right, 1 - right))
    except Exception:  # functions with other arguments fail in many ways
        return False
    return good < bad


def _is_monitor(monitor: str | dict[str, float]) -> bool:
    return bool(monitor) and (isinstance(monitor, str) or all(map(math.isfinite, monitor.values())))


_Count = Annotated[int, Range("a whole number, 1 or more", 1, 2**63 - 1)]
_Positive = Annotated[float, Range("a positive number", 0, without=(0,))]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Keys of `BaseModel.fit`, the zoo's loaders and runner, trainer and loader."""

    model: Annotated[
        str, Check("the name of a class in model_zoo/", str.isidentifier), Help("the model, a class in model_zoo/")
    ]
    zoo: Annotated[
        str | None,
        Check("the folder of a FuxiCTR checkout", lambda _: True),
        Help("FuxiCTR checkout that has the model; null: this project"),
    ] = None
    model_root: Annotated[str, Help("folder of checkpoints, states and logs")] = DEFAULTS["model_root"]
    seed: Annotated[
        int, Range("a whole number from 0 to 4294967295", 0, 2**32 - 1), Help("seed of weights, order and draws")
    ] = DEFAULTS["seed"]
    verbose: Annotated[
        int,
        Range("a whole number, 0 or more", 0, 2**63 - 1),
        Help("progress bar, without a terminal one line per minute; 0: neither"),
    ] = DEFAULTS["verbose"]
    num_threads: Annotated[
        Annotated[int, Range("a whole number from 1 to 4096", 1, 4096)] | None,
        Help("number of CPU threads; null: torch's default"),
    ] = None

    task: Annotated[Literal["binary_classification", "regression"], Help("type of the labels")] = (
        "binary_classification"
    )
    loss: Annotated[
        str,
        Check("binary_crossentropy or the name of a loss in torch.nn.functional, e.g. mse_loss", _is_loss),
        Help("loss on the labels"),
    ]
    optimizer: Annotated[
        str,
        Check("adam or the name of an optimizer in torch.optim that needs no more than gradients", _trains),
        Help("optimizer"),
    ]
    epochs: Annotated[_Count, Help("largest number of epochs")] = 1
    max_gradient_norm: Annotated[_Positive, Help("clip norm of the gradient")] = 10.0
    batch_size: Annotated[_Count, Help("rows per step, over all data-parallel processes")] = 32
    shuffle: Annotated[bool, Help("train on the rows in a new order in each epoch")] = True
    trim_histories: Annotated[
        bool, Help("cut the behaviour sequences of a batch to its longest; False: pad them to `max_len`, as the zoo")
    ] = True
    bucket_by_length: Annotated[bool, Help("train on batches of rows with similar numbers of behaviours")] = False
    num_workers: Annotated[
        int, Range("a whole number from 0 to 1024", 0, 1024), Help("loader workers of the zoo's loaders")
    ] = 1
    buffer_size: Annotated[_Count, Help("number of rows in the shuffle buffer of the zoo's block loaders")] = 100_000

    embedding_updates: Annotated[
        Literal["dense", "sparse"], Help("rows of the embedding tables that a step updates: all, or those of its batch")
    ] = "dense"
    embedding_regularization: Annotated[
        Literal["table", "mini_batch_aware"],
        Help(
            "rows that `embedding_regularizer` sums over: all rows in every step, or the rows of the batch, as in DIN"
        ),
    ] = "table"
    weight_averaging: Annotated[
        Literal["none", "ema"], Help("evaluate and keep an exponential moving average of the weights")
    ] = "none"
    weight_averaging_decay: Annotated[
        Rate, Help("decay of the average; in step n it is n / (9 + n) if that is smaller")
    ] = 0.999
    embedding_sharding: Annotated[
        Literal["none", "rows"],
        Help("distribute the rows of the tables over the data-parallel processes; needs `embedding_updates: sparse`"),
    ] = "none"
    aux_negative_scope: Annotated[
        Literal["batch", "shard"] | None,
        Help(
            "behaviours that in-batch negatives are drawn from: those of the whole batch, or of the process's shard; "
            "null: the whole batch for up to 16 processes"
        ),
    ] = None
    sync_batch_norm: Annotated[
        bool,
        Help("compute batch normalization and Dice over the rows of all processes; False: over each process's shard"),
    ] = True

    metrics: Annotated[
        list[str], Check("a list of metrics, e.g. [AUC, gAUC, logloss]", bool), Help("metrics of the evaluations")
    ]
    monitor: Annotated[
        str | dict[str, float],
        Check("a metric or a mapping of metrics to weights, e.g. {AUC: 1, logloss: -1}", _is_monitor),
        Help("metric, or weighted sum of metrics, on the validation data that chooses the best weights"),
    ] = "AUC"
    monitor_mode: Annotated[Literal["max", "min"], Help("whether a higher or a lower monitor is better")] = "max"
    eval_steps: Annotated[_Count | None, Help("steps between two evaluations; null: an epoch")] = None
    early_stop_patience: Annotated[
        _Count, Help("number of consecutive evaluations without a better monitor after which the training ends")
    ] = 2
    reduce_lr_on_plateau: Annotated[
        bool, Help("divide the learning rate by ten after an evaluation without a better monitor")
    ] = True
    save_best_only: Annotated[bool, Help("keep the best weights; False: the last")] = True

    use_features: Annotated[
        list[str] | tuple[str, ...] | None,
        Check("a list of features, or null for all", lambda _: True),
        Help("features that the model uses; null: all"),
    ] = None
    feature_specs: Annotated[
        list[dict[str, Any]] | None,
        Check("a list, each a mapping with name, or null", lambda _: True),
        Help("changes of `feature_cols` for this model, each with the name of the feature"),
    ] = None
    group_id: Annotated[
        str | None,
        Check("the name of a feature, or null", lambda name: name != ""),
        Help("feature that groups the rows of gAUC, MRR, NDCG and HitRate"),
    ] = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "TrainingOptions":
        """Return the options of a checked configuration, whose other keys are left out."""
        return cls(**{field.name: params[field.name] for field in fields(cls) if field.name in params})


TRAINING = get_type_hints(TrainingOptions, include_extras=True)
"""Key -> its type."""
