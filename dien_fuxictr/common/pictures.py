"""Pictures by matplotlib, which is an optional package."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import UserError


@contextmanager
def default_style(settings: dict[str, Any] | None = None) -> Iterator[None]:
    """Matplotlib's default style, whatever a user or a library has set (Optuna does); that is back at the end.

    Args:
        settings: what differs from it.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError as error:
        raise UserError("no pictures, as a package is not installed: pip install matplotlib") from error
    with style.context(["default", settings or {}]):
        yield
