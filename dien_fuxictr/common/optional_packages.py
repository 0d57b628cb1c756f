"""Packages that only a part of the project needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import UserError


@contextmanager
def needed(purpose: str, install: str) -> Iterator[None]:
    """Import packages that may be missing within the block.

    Args:
        purpose: what needs them.
        install: the command that installs them.

    Raises:
        UserError: a package is not installed; says how to install it.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"{purpose} needs the package {error.name}, which is not installed: {install}") from error
