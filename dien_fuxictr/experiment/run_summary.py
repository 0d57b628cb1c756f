"""Output of `run_expid.py` before and after its work: settings and metrics."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from dien_fuxictr.common.summary_text import SPLIT_NAMES, aligned, settings_line

from .configuration.training_options import TrainingOptions
from .contract import constructor_defaults
from .evaluation.evaluate import Evaluation

_LEFT_OUT = ("model_id", "model_root", "verbose", "use_features", "feature_specs", "group_id")


def settings_text(model_class: type, params: Mapping[str, Any]) -> str:
    """Return the keys of training and of the model whose values differ from the defaults, as `--set` takes them.

    Args:
        model_class: of the experiment.
        params: its checked configuration.
    """
    defaults = constructor_defaults(model_class)
    defaults |= {field.name: field.default for field in fields(TrainingOptions) if field.default is not MISSING}
    texts = [
        f"{key}={value}".replace(" ", "")
        for key, value in params.items()
        if key in defaults and _differs(value, defaults[key]) and key not in _LEFT_OUT and not key.endswith("_field")
    ]
    return settings_line(texts, "--show-config lists all")


def _differs(value: Any, default: Any) -> bool:
    value, default = (list(each) if isinstance(each, tuple) else each for each in (value, default))
    return value != default and bool(value or default)  # None and 0 turn the same things off


def metrics_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the metrics of `valid` and `test`, of those there are, as aligned text."""
    metrics = dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.metrics)
    lines = [["", "rows", *metrics]]
    for split, evaluation in evaluations.items():
        values = [f"{evaluation.metrics[name]:.4f}" for name in metrics]
        lines.append([SPLIT_NAMES[split], f"{len(evaluation.label):,}", *values])
    return aligned(lines)
