"""Values of the keys that the runner itself reads, checked before anything is built."""

import math
from collections.abc import Callable
from typing import Any

import torch
from fuxictr.pytorch.torch_utils import get_regularizer

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.loading.entry import DATA_FORMATS

from ..evaluation.metrics import REGRESSION_METRICS, check_metric, missing_group, needs_groups

_CHOICES = {
    "monitor_mode": ("max", "min"),
    "task": ("binary_classification", "regression"),
    "data_format": DATA_FORMATS,
    "embedding_updates": ("dense", "sparse"),
}
_REQUIRED = ("model", "loss", "optimizer", "metrics", "data_root", "data_format")
_LOSS_ALIASES = ("bce", "binary_crossentropy")


def check_values(params: dict[str, Any], where: Callable[[str], str]) -> None:
    """Check the settings of training and evaluation.

    Args:
        params: the merged configuration.
        where: key -> the file and section it comes from.

    Raises:
        UserError: a missing key or a value that is not allowed; names key, value, place and what is allowed.
    """
    for key in _REQUIRED:
        if params.get(key) is None:
            raise UserError(f"{key} is missing: expid {params['model_id']} needs it in its configuration")

    def refuse(key: str, allowed: str) -> None:
        raise UserError(f"{key} = {params[key]!r} in {where(key)} must be {allowed}")

    checks: list[tuple[tuple[str, ...], Callable[[Any], bool], str]] = [
        (("batch_size", "epochs", "early_stop_patience"), lambda v: _is_int(v) and v >= 1, "an integer of at least 1"),
        (
            ("eval_steps", "num_threads"),
            lambda v: v is None or (_is_int(v) and v >= 1),
            "null or an integer of at least 1",
        ),
        (("learning_rate", "max_gradient_norm"), lambda v: _is_number(v) and 0 < v < math.inf, "a positive number"),
        (("seed", "verbose", "num_workers"), lambda v: _is_int(v) and 0 <= v < 2**32, "an integer from 0 to 2**32 - 1"),
        (
            ("save_best_only", "reduce_lr_on_plateau", "shuffle", "bucket_by_length"),
            lambda v: isinstance(v, bool),
            "True or False",
        ),
        (("zoo",), lambda v: v is None or isinstance(v, str), "the folder of a FuxiCTR checkout"),
        *(((key,), allowed.__contains__, " or ".join(allowed)) for key, allowed in _CHOICES.items()),
    ]
    for keys, is_allowed, allowed in checks:
        for key in keys:
            if key in params and not is_allowed(params[key]):
                refuse(key, allowed)

    _check_metrics(params, refuse)
    if not isinstance(params["model"], str) or not params["model"].isidentifier():
        refuse("model", "the name of a class in model_zoo/")
    if not _is_optimizer(params["optimizer"]):
        refuse("optimizer", "adam or the name of an optimizer in torch.optim")
    loss = params["loss"]
    if loss not in _LOSS_ALIASES and not (isinstance(loss, str) and callable(getattr(torch.nn.functional, loss, None))):
        refuse("loss", "binary_crossentropy or the name of a loss in torch.nn.functional, e.g. mse_loss")
    for key in ("embedding_regularizer", "net_regularizer"):
        try:
            get_regularizer(params.get(key))
        except NotImplementedError:
            refuse(key, "a number, l1(x), l2(x) or l1_l2(x,y)")


def _check_metrics(params: dict[str, Any], refuse: Callable[[str, str], None]) -> None:
    monitor = params.get("monitor", "AUC")
    weights = {monitor: 1} if isinstance(monitor, str) else monitor
    if not isinstance(params["metrics"], list) or not params["metrics"]:
        refuse("metrics", "a list of metrics, e.g. [AUC, gAUC, logloss]")
    if not isinstance(weights, dict) or not weights or not all(map(_is_number, weights.values())):
        refuse("monitor", "a metric or a mapping of metrics to weights, e.g. {AUC: 1, logloss: -1}")
    for name in [*params["metrics"], *weights]:
        check_metric(name)
        if needs_groups(name) and not params.get("group_id"):
            raise UserError(missing_group(name))
        if params.get("task") == "regression" and name not in REGRESSION_METRICS:
            allowed = ", ".join(REGRESSION_METRICS)
            raise UserError(f"metric {name} needs classes, but task is regression: metrics and monitor take {allowed}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _is_optimizer(name: object) -> bool:
    if not isinstance(name, str):
        return False
    cls = getattr(torch.optim, name, None)
    return name.lower() == "adam" or (isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer))
