"""Work that goes on beside requests, which go first."""

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

_NICER = 5
"""Of the thread's priority: a third of a core's time where a request wants it too. Not less: it may hold the
interpreter's lock, which a request then waits for, while another process has the core."""
_TURN = 0.0005
"""Seconds until Python code hands the interpreter's lock over to who waits for it; a request needs the lock about four
times, and each time would wait for the usual 5 ms."""


def background_thread() -> ThreadPoolExecutor:
    """One thread, of a lower priority where threads have one of their own."""
    return ThreadPoolExecutor(1, initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


@contextmanager
def short_turns() -> Iterator[None]:
    """While the block runs, threads hand the interpreter's lock over sooner."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
