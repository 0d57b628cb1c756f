"""Processes for measurements: each has its own heap, and a chosen allocator."""

import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from dien_fuxictr.common.errors import TrainingError

PRELOAD = ["benchmarks.compare_systems", "torch._dynamo"]
"""Modules that import slowly, the last by the first optimizer; none computes or touches a GPU while it is imported,
after which no copy could."""

T = TypeVar("T")
R = TypeVar("R")


class Worker(Generic[T]):
    """Process that builds an object, and calls functions with it on request.

    It is used by `with`, after which the process has ended in any case. Functions, arguments and results are pickled.
    An error in the process is raised here; its output goes to stderr.

    Args:
        make: builds the first argument of the functions; called at once.
        fresh: whether the process imports everything itself, so that its memory is that of a separate program. Other
            processes start as copies of one that has, if the system supports it, which takes no time.

    Raises:
        TrainingError: from `ask` and at the start, if the process has ended by itself.
    """

    def __init__(self, make: Callable[[], T], fresh: bool = False) -> None:
        self._make = make
        self._fresh = fresh

    def __enter__(self) -> "Worker[T]":
        context = get_context("spawn") if self._fresh else _copies()
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=_serve, args=(end, self._make), daemon=True)
        self._process.start()
        end.close()  # so that the process's end ends `recv`
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    def ask(self, function: Callable[..., R], *arguments: Any) -> R:
        """Return the result of the function in the process.

        Its arguments are the object built there and the given ones.
        """
        with suppress(ConnectionError):  # `_answer` reports it
            self._pipe.send((function, arguments))
        return self._answer()

    def _answer(self) -> Any:
        try:
            result, error, trace = self._pipe.recv()
        except (EOFError, ConnectionError) as gone:
            self._process.join()
            raise TrainingError(f"a process has ended with code {self._process.exitcode}: out of memory?") from gone
        if error:
            raise error from RuntimeError(f"in a process of its own:\n{trace}")
        return result


def _copies() -> Any:
    """Return the context of processes that are copies with slow imports done.

    Without such a context the processes are new ones.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


def _serve(pipe: Connection, make: Callable[[], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends this one
    with redirect_stdout(sys.stderr), suppress(EOFError, ConnectionError):  # the parent has ended
        made, *failure = _outcome(make)
        pipe.send((None, *failure))
        while True:
            function, arguments = pipe.recv()
            pipe.send(_outcome(function, made, *arguments))


def _outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None, str]:
    """Return the result, or the error and its traceback."""
    try:
        return function(*arguments), None, ""
    except Exception as error:
        return None, error, traceback.format_exc()
