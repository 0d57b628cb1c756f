"""Text that commands show before and after their work: settings, aligned tables, files written."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

SPLIT_NAMES = {"train": "training", "valid": "validation", "test": "test"}
_WIDTH, _LINES = 100, 3


def settings_line(texts: Sequence[str], all_of_them: str) -> str:
    """Return settings that differ from the defaults as at most three lines.

    Args:
        texts: `key=value` of each setting.
        all_of_them: shown where the settings are cut: where the user finds all of them.
    """
    margin = "  settings  "
    return textwrap.fill(
        " ".join([*texts, "(all others: defaults)" if texts else "defaults"]),
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=" " * len(margin),
        break_long_words=False,
        break_on_hyphens=False,
        max_lines=_LINES,
        placeholder=f" ... ({all_of_them})",
    )


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text with the first column flush left and the others flush right."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join(
        "  ".join([name.ljust(first), *(text.rjust(width) for text, width in zip(cells, others, strict=True))])
        for name, *cells in lines
    )


def files_text(files: Mapping[str, Path | None]) -> str:
    """Return what a command has written, a line per file or folder; what is None is left out.

    Args:
        files: what it is -> path.
    """
    return "\n".join(f"{what:11} {path}" for what, path in files.items() if path is not None)
