"""Pictures by matplotlib, which is an optional package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UserError


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
        raise UserError("no pictures, as a package is not installed: pip install matplotlib") from error
    with style.context(["default", settings or {}]):
        yield
