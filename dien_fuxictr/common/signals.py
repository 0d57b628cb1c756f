"""Ctrl-C and SIGTERM as exceptions, raised when the program can handle them.

Slurm and Kubernetes end a program by SIGTERM.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Terminated(KeyboardInterrupt):
    """SIGTERM has come; after a Ctrl-C it is a plain KeyboardInterrupt."""


def _terminate(*_: object) -> NoReturn:
    # Slurm sends it to every process of a job, a sweep to its runs: a second one must not interrupt the first one's
    # work.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Make the first SIGTERM raise `Terminated` in the context; ignore further ones.

    This only works in the main thread.
    """
    if not _is_main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def starting(tells: bool = True) -> Iterator[None]:
    """Make Ctrl-C and SIGTERM end the process at once within the context.

    An exception may get lost in an import. The context only acts in the main thread, and on signals for which no
    program has set its own handlers.

    Args:
        tells: whether the process prints one line before it ends.
    """

    def end(number: int, _: FrameType | None) -> NoReturn:
        if tells:
            print("error: interrupted while starting; nothing was written", file=sys.stderr, flush=True)
        os._exit(128 + number)

    before = {number: signal.signal(number, end) for number in _usual()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _usual() -> list[signal.Signals]:
    """Return those of Ctrl-C and SIGTERM that have default handlers.

    The list is empty outside the main thread.
    """
    usual = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, _terminate)}
    return [number for number, handlers in usual.items() if _is_main_thread() and signal.getsignal(number) in handlers]


class DeferredSignals:
    """Context in which Ctrl-C and SIGTERM wait for a consistent state.

    The first signal is raised as an exception in a block of `allowed`. Further SIGTERMs are ignored; a second Ctrl-C
    does not wait. Handlers that a program has set itself stay, and other threads than the main one are not affected.

    Attributes:
        received: the waiting exception.
        asked: exception that `agree` treats as received, for a program that receives signals in another way.
    """

    asked: type[KeyboardInterrupt] | None = None

    def __init__(self) -> None:
        self.received: type[KeyboardInterrupt] | None = None
        self._is_allowed = False
        self._before = {}

    def __enter__(self) -> "DeferredSignals":
        self._before = {number: signal.signal(number, self._on_signal) for number in _usual()}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            has_come = handler is _terminate and self.received is Terminated
            signal.signal(number, signal.SIG_IGN if has_come else handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raise a waiting signal, or one that comes in this block.

        Raises:
            KeyboardInterrupt: Ctrl-C.
            Terminated: SIGTERM.
        """
        self._is_allowed = True
        try:
            self.raise_received()
            yield
        finally:
            self._is_allowed = False

    def raise_received(self) -> None:
        """Raise what is waiting."""
        if self.received:
            raise self.received

    def agree(self, largest: Callable[[int], int]) -> None:
        """Make all processes receive what one has received, so that they end together.

        Args:
            largest: returns the largest number of all processes.
        """
        every = (None, KeyboardInterrupt, Terminated)
        found = every[largest(every.index(self.received or DeferredSignals.asked))]
        if found:  # otherwise keep a signal that has come in the meantime
            self.received = found

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        error = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        is_first = self.received is None
        self.received = self.received or error
        if error is Terminated and is_first and os.name == "posix":
            # A loader's processes may have got it too, and torch raises an error wherever the program is once they end.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._is_allowed if is_first else error is KeyboardInterrupt:
            raise error


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
