"""Ctrl-C, and SIGTERM, by which Slurm and Kubernetes end a program, as exceptions that come when it can take them."""

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
    # Slurm sends it to every process of a job, a sweep to its runs: another one must not stop what this one begins.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated


@contextmanager
def sigterm_raises() -> Iterator[None]:
    """Within, the first SIGTERM raises `Terminated`, and those after it do nothing. Only in the main thread."""
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
    """Let Ctrl-C and SIGTERM end the process at once, within: an exception may get lost in an import.

    This holds only in the main thread, and where no program has set handlers of its own.

    Args:
        tells: the process ends with one line.
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
    """Return those of Ctrl-C and SIGTERM whose handlers no program has set; none outside the main thread."""
    usual = {signal.SIGINT: (signal.default_int_handler,), signal.SIGTERM: (signal.SIG_DFL, _terminate)}
    return [number for number, handlers in usual.items() if _is_main_thread() and signal.getsignal(number) in handlers]


class DeferredSignals:
    """Within the block Ctrl-C and SIGTERM wait for a moment in which nothing is half done.

    The first one comes as an exception in a block of `allowed`. More of SIGTERM do nothing; a second Ctrl-C does not
    wait. Handlers that a program has set by itself stay, and in other threads than the main one nothing changes.

    Attributes:
        received: what is waiting, as an exception.
        asked: what `agree` takes for received, of a program that hears of signals in another way.
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
        """A signal in this block, or one that has waited for it, is raised.

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
        """Let all of several processes have received what one of them has: they end at the same moment.

        Args:
            largest: gives each of them the largest of their numbers.
        """
        every = (None, KeyboardInterrupt, Terminated)
        found = every[largest(every.index(self.received or DeferredSignals.asked))]
        if found:  # else one may have come in the meantime, and stays
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
