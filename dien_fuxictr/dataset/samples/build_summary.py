"""Output of `build_dataset.py` before and after its work: options, counts and audit of the samples."""

from collections.abc import Mapping
from typing import Any

from dien_fuxictr.common.summary_text import SPLIT_NAMES, aligned, settings_line

from .build_options import RAW_FILES, BuildOptions, options_of
from .leak_audit import best_rule


def build_settings_text(options: BuildOptions) -> str:
    """Return the options of a build that differ from the defaults, as YAML keys; raw files are left out."""
    known = options_of(options.source)
    texts = [
        f"{name}={','.join(value) if isinstance(value, tuple) else value}"
        for name, value in options.stated().items()
        if name in known and name not in (*RAW_FILES, "max_len") and value != known[name].default
    ]
    return settings_line([*texts, f"max_len={options.max_len}"], "samples.json lists all")


def samples_table(info: Mapping[str, Any]) -> str:
    """Return the counts of a samples.json and the best rule of its audit as aligned text."""
    counts, audit = info["counts"], info["audit"]
    lines = [["", "rows", "positives", "behaviours per history"]]
    for split, name in SPLIT_NAMES.items():
        of = counts[split]
        lines.append([name, f"{of['rows']:,}", f"{of['positives']:,}", f"{of['mean_history']:.2f}"])
    whole = ", ".join(f"{count:,} {what}" for what, count in counts.items() if isinstance(count, int))
    leaks = len(audit["warnings"])
    found = f"{leaks} {'leak' if leaks == 1 else 'leaks'}, see the warnings" if leaks else "no leak found"
    rule, auc = best_rule(audit)
    best = f"{found}; best rule without a model: {rule}, AUC {auc:.4f}"
    return f"{aligned(lines)}\n\n{'log':11} {whole}\n{'audit':11} {best}"
