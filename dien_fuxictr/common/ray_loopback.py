"""Where the Ray that FuxiCTR or a command starts on this machine listens."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

_SWITCH = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def on_loopback() -> Iterator[None]:
    """Let a Ray cluster that is started within listen on the loopback alone, as it does on macOS and Windows."""
    from ray._private import ray_constants

    before = os.environ.get(_SWITCH), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[_SWITCH] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # of this process, in which FuxiCTR has imported Ray already
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        del os.environ[_SWITCH]
        if before[0] is not None:
            os.environ[_SWITCH] = before[0]


def fuxictrs_ray() -> AbstractContextManager[None]:
    """Where FuxiCTR starts Ray by itself: on the loopback, unless RAY_ADDRESS names a cluster that it joins."""
    return nullcontext() if os.environ.get("RAY_ADDRESS") else on_loopback()
