"""Restrict the Ray that FuxiCTR or a command starts to this machine's loopback."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def on_loopback() -> Iterator[None]:
    """Make a Ray cluster that is started in the context listen only on the loopback.

    This is Ray's default on macOS and Windows.
    """
    from ray._private import ray_constants

    before = os.environ.get(_SWITCH), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_SWITCH] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # for this process, in which FuxiCTR has already imported Ray
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        del os.environ[_SWITCH]
        if before[0] is not None:
            os.environ[_SWITCH] = before[0]


def fuxictrs_ray() -> AbstractContextManager[None]:
    """Return the context for Ray that FuxiCTR starts: on the loopback.

    If RAY_ADDRESS names a cluster, FuxiCTR joins it and the context does nothing.
    """
    return nullcontext() if os.environ.get("RAY_ADDRESS") else on_loopback()
