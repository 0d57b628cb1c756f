"""Packages that only serving needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from dien_fuxictr.common.errors import UserError

INSTALL = 'pip install "uvicorn[standard]" orjson prometheus-client safetensors'


@contextmanager
def needed(install: str = INSTALL) -> Iterator[None]:
    """Around imports of them, which `install` installs.

    Raises:
        UserError: one is not installed; says how to install it.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"serving needs the package {error.name}, which is not installed: {install}") from error


def import_server() -> None:
    """Import what the server needs; raises as `needed`."""
    for name in ("uvicorn", "orjson", "prometheus_client"):
        with needed():
            import_module(name)
