"""Output of commands before and after their work: settings, metrics, counts, files."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from dien_fuxictr.dataset.samples.build_options import RAW_FILES, BuildOptions, options_of
from dien_fuxictr.dataset.samples.leak_audit import best_rule

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
    return _wrapped(texts, "--show-config lists all")


def build_settings_text(options: BuildOptions) -> str:
    """Return the options of a build that differ from the defaults, as YAML keys; raw files are left out."""
    known = options_of(options.source)
    texts = [
        f"{name}={','.join(value) if isinstance(value, tuple) else value}"
        for name, value in options.stated().items()
        if name in known and name not in (*RAW_FILES, "max_len") and value != known[name].default
    ]
    return _wrapped([*texts, f"max_len={options.max_len}"], "samples.json lists all")


def _wrapped(texts: Sequence[str], more: str) -> str:
    margin = "  settings  "
    return textwrap.fill(
        " ".join([*texts, "(all others: defaults)" if texts else "defaults"]),
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=" " * len(margin),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_LINES,
        placeholder=f" ... ({more})",
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
    return aligned(lines)


def samples_table(info: Mapping[str, Any]) -> str:
    """Return the counts of a samples.json and the best rule of its audit as aligned text."""
    counts, audit = info["counts"], info["audit"]
    lines = [["", "rows", "positives", "behaviours per history"]]
    for split, name in (("train", "training"), *_NAMES.items()):
        of = counts[split]
        lines.append([name, f"{of['rows']:,}", f"{of['positives']:,}", f"{of['mean_history']:.2f}"])
    whole = ", ".join(f"{count:,} {what}" for what, count in counts.items() if isinstance(count, int))
    leaks = len(audit["warnings"])
    found = f"{leaks} {'leak' if leaks == 1 else 'leaks'}, see the warnings" if leaks else "no leak found"
    rule, auc = best_rule(audit)
    best = f"{found}; best rule without a model: {rule}, AUC {auc:.4f}"
    return f"{aligned(lines)}\n\n{'log':11} {whole}\n{'audit':11} {best}"


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text with the first column flush left and the others flush right."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
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
