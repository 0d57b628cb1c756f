"""Pictures by matplotlib, an optional package: default style and model colours."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import UserError

COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0478f", "#c98a00", "#3fa7dc", "#7a5c45", "#6d5bd0")
OTHERS = "#8a94a0"
"""Colour of lines without a style in `MODEL_STYLES`."""
DASHES = ("solid", "dashed", "dotted")
"""Names of line styles, valid in both matplotlib and CSS."""


@dataclass(frozen=True)
class LineStyle:
    """Style of a line, equal in all pictures.

    Attributes:
        color: one of `COLORS`.
        dash: one of `DASHES`.
    """

    color: str
    dash: str = "solid"


BLUE, ORANGE, GREEN, MAGENTA, OCHRE, SKY, BROWN, VIOLET = COLORS
MODEL_STYLES = {
    "DIEN": LineStyle(BLUE),
    "DIN": LineStyle(ORANGE),
    "EmbeddingMLP": LineStyle(BROWN),
    "GRUAttention": LineStyle(GREEN),
    "DIENLight": LineStyle(SKY),
    "BST": LineStyle(VIOLET),
    "DSIN": LineStyle(MAGENTA),
    "DREAM": LineStyle(OCHRE),
    "DMNPlus": LineStyle(GREEN, "dashed"),
    "WideDeep": LineStyle(BROWN, "dashed"),
    "PNN": LineStyle(MAGENTA, "dashed"),
    "DeepFM": LineStyle(OCHRE, "dashed"),
    "FM": LineStyle(VIOLET, "dashed"),
}
"""Style of each model in every picture; other models get a free style."""


@contextmanager
def default_style(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Use Matplotlib's default style within the context, and restore the style after.

    A user or a library (such as Optuna) may have set another style.

    Args:
        settings: differences from the default style.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise UserError("pictures need a package that is not installed: pip install matplotlib") from error
    with style.context(["default", settings or {}]):
        yield
