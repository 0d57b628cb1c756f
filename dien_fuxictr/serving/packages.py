"""Packages that only serving needs."""

from collections.abc import Iterator
from contextlib import contextmanager

from dien_fuxictr.common.errors import UserError

INSTALL = 'pip install "uvicorn[standard]" orjson prometheus-client safetensors'


@contextmanager
def needed() -> Iterator[None]:
    """Around imports of them.

    Raises:
        UserError: one is not installed; says how to install it.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"serving needs the package {error.name}, which is not installed: {INSTALL}") from error
