"""Output of `run_expid.py` before and after its work: settings, metrics, files."""

import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from .configuration.training_options import TrainingOptions
from .contract import constructor_defaults
from .evaluation.evaluate import Evaluation

_WIDTH, _LINES = 100, 3
_LEFT_OUT = ("model_id", "model_root", "verbose", "use_features", "feature_specs", "group_id")
_NAMES = {"valid": "validation", "test": "test"}


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
    margin = "  settings  "
    return textwrap.fill(
        " ".join([*texts, "(all others: defaults)" if texts else "defaults"]),
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=" " * len(margin),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_LINES,
        placeholder=" ... (--show-config lists all)",
    )


def _differs(value: Any, default: Any) -> bool:
    value, default = (list(each) if isinstance(each, tuple) else each for each in (value, default))
    return value != default and bool(value or default)  # None and 0 turn the same things off


def metrics_table(evaluations: Mapping[str, Evaluation]) -> str:
    """Return the metrics of `valid` and `test`, of those there are, as aligned text."""
    metrics = dict.fromkeys(name for evaluation in evaluations.values() for name in evaluation.metrics)
    lines = [["", "rows", *metrics]]
    for split, evaluation in evaluations.items():
        values = [f"{evaluation.metrics[name]:.4f}" for name in metrics]
        lines.append([_NAMES[split], f"{len(evaluation.label):,}", *values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join([name.ljust(first), *(text.rjust(width) for text, width in zip(cells, others, strict=True))])
        for name, *cells in lines
    )


def files_text(files: Mapping[str, Path | None]) -> str:
    """Return what a run has written, a line per file or folder; what is None is left out.

    Args:
        files: what it is -> path.
    """
    return "\n".join(f"{what:11} {path}" for what, path in files.items() if path is not None)
