"""Functions that tests run in other processes, which need functions of modules."""

import os
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dien_fuxictr.common.errors import UserError


def count_from(first: int) -> list[int]:
    """Return a state: the last number."""
    return [first]


def count(state: list[int], step: int) -> tuple[int, int]:
    """Return the next number, and the process."""
    state[0] += step
    return state[0], os.getpid()


def say(_: Any, text: str) -> None:
    print(text, flush=True)


def fail(*_: Any) -> None:
    raise UserError("bad input")


def end(*_: Any) -> None:
    os._exit(3)


def page_faults(_: Any) -> int:
    """Return page faults of blocks that existed before.

    There are none unless the C library has returned them to the kernel.
    """
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            blocks = [np.ones(size * 2**20, np.uint8) for size in (1, 8, 40)]
            del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def logged(file: Path, *_: Any) -> Callable[[], None]:
    """Return a task that logs its process at start and end."""
    return partial(_log, file)


def _log(file: Path) -> None:
    with open(file, "a") as log:
        print(os.getpid(), file=log, flush=True)
        time.sleep(0.2)
        print(os.getpid(), file=log)
