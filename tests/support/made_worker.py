"""What tests have done in processes of their own, where only functions of modules can be sent."""

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
    """A state: the last number."""
    return [first]


def count(state: list[int], step: int) -> tuple[int, int]:
    """The next number, and the process."""
    state[0] += step
    return state[0], os.getpid()


def say(_: Any, text: str) -> None:
    print(text, flush=True)


def fail(*_: Any) -> None:
    raise UserError("bad input")


def end(*_: Any) -> None:
    os._exit(3)


def page_faults(_: Any) -> int:
    """Of blocks that were there before, unless the C library has returned them to the kernel."""
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            blocks = [np.ones(size * 2**20, np.uint8) for size in (1, 8, 40)]
            del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def logged(file: Path, *_: Any) -> Callable[[], None]:
    """A task that writes its process at its start and its end."""
    return partial(_log, file)


def _log(file: Path) -> None:
    with open(file, "a") as log:
        print(os.getpid(), file=log, flush=True)
        time.sleep(0.2)
        print(os.getpid(), file=log)
