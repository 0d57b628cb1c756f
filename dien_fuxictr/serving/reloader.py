"""Model that answers, and successors that are loaded before they replace it."""

import asyncio
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.traceback_file import summary

from .bundle import Bundle
from .golden import Differs
from .model_service import ModelService
from .server_metrics import Metrics

T = TypeVar("T")
_EVERY = 1.0
"""Seconds from one check to the next."""
_NICER = 5
"""Decrease of the thread's priority: it gets a third of a core's time if a request needs the core too. Not less: it may
hold the interpreter's lock, which a request then waits for, while another process has the core."""
_TURN = 0.0005
"""Seconds until Python code hands the interpreter's lock over to a thread that waits for it; a request needs the lock
about four times, and each time would wait for the usual 5 ms."""
_UNKNOWN = "unknown"


def bundle_fingerprint(folder: Path) -> object:
    """Return a value that changes when the folder's bundle changes or is written.

    It contains the resolved path of the folder, and names, inodes, sizes and times of its files.
    """
    target = os.path.realpath(folder)
    try:
        with os.scandir(target) as entries:
            states = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return target, ()
    return target, tuple(sorted((name, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states))


class Attempt:
    """An attempt to load another bundle while one answers.

    Args:
        old: digest of the model that answers.
        asked_by: what has asked for it.
        metrics: told what has become of it.

    Attributes:
        bundle: the other one; None while it is not read.
        golden: the largest difference from its golden scores; None while it is not known.
    """

    def __init__(self, old: str, asked_by: str, metrics: Metrics) -> None:
        self._old, self._asked_by, self._metrics = old, asked_by, metrics
        self._start = time.monotonic()
        self.bundle: Bundle | None = None
        self.golden: float | None = None

    def loaded(self, digest: str) -> None:
        """Say that it answers from now on."""
        self._say("loaded", f"reloaded, model {digest} replaces model {self._old}", digest)

    def refused(self, problem: Exception, stated: str) -> None:
        """Say why it does not.

        Args:
            problem: what loading has raised.
            stated: the digest that the bundle states, for one that could not be read.
        """
        if isinstance(problem, Differs):
            self.golden = problem.difference
        reason = problem if isinstance(problem, UserError) else summary(problem)
        digest = self.bundle.digest if self.bundle else stated or _UNKNOWN
        self._say("refused", f"not reloaded, model {self._old} stays, model {digest} is refused: {reason}", digest)

    def _say(self, result: str, what: str, digest: str) -> None:
        seconds = time.monotonic() - self._start
        metric, value = next(iter(self.bundle.metrics.items() if self.bundle else ()), ("validation metric", None))
        known = {
            "validation": _UNKNOWN if value is None else f"{value:.6g}",
            "trained": (self.bundle and self.bundle.trained) or _UNKNOWN,
            "golden": _UNKNOWN if self.golden is None else f"{self.golden:.1e}",
        }
        line = (
            f"{what} ({metric} {known['validation']}, trained {known['trained']}, golden difference {known['golden']}, "
            f"{seconds:.1f} s, asked by {self._asked_by})"
        )
        logging.warning(" ".join(line.split()))
        self._metrics.reloaded(result, seconds, old=self._old, new=digest, asked_by=self._asked_by, **known)


@dataclass(frozen=True)
class Accepted:
    """Bundle that the workers of a server accepted last; kept by their supervisor.

    Without a supervisor there is none.

    Attributes:
        digest: digest of the bundle; empty without one.
        load: reads the bundle.
        took: called with the digest of the bundle that a worker answers with from now on.
    """

    digest: Callable[[], str]
    load: Callable[[], Bundle]
    took: Callable[[str], None]


class Reloader:
    """Current and later bundles of a folder.

    Args:
        load: reads the folder.
        serve: builds and warms up the service of a bundle.
        fingerprint: fingerprint of the folder; when it changes, the folder is read again.
        stated: digest that the folder's bundle states, read or not; empty if none.
        metrics: records the model that answers, and each reload.
        accepted: bundle that all workers have accepted.
        allow_new_fields: also accept a bundle whose requests have other fields.

    Attributes:
        current: the service that answers; None until the first is loaded. A replaced service is released after its last
            request.
    """

    def __init__(
        self,
        load: Callable[[], Bundle],
        serve: Callable[[Bundle], ModelService],
        fingerprint: Callable[[], object],
        stated: Callable[[], str],
        metrics: Metrics,
        accepted: Accepted | None = None,
        allow_new_fields: bool = False,
    ) -> None:
        self._load, self._serve, self._fingerprint, self._stated = load, serve, fingerprint, stated
        self._metrics, self._accepted, self._allow_new_fields = metrics, accepted, allow_new_fields
        self._read: object = None
        self._seen = ""
        self._asked = asyncio.Event()
        self._thread = background_thread()
        self.current: ModelService | None = None

    async def first(self, others: Callable[[], Awaitable[None]]) -> None:
        """Load the current bundle, or the one that workers have accepted instead.

        Answer with it when `others` have loaded, too. Raises the errors of loading.
        """
        attempt = Attempt("", "start", self._metrics)
        served = None
        if await self._has_been_accepted() and self._seen != await self._in_thread(self._stated):
            try:
                served = await self._kept(attempt)
                logging.warning(f"started with the accepted model {served.digest}: the folder holds another one")
            except Exception as error:
                logging.warning(f"started with the bundle in the folder: the accepted model cannot be loaded: {error}")
        served = served or await self._there(attempt)
        gc.freeze()  # existing objects stay: a collection that visits them would delay requests by .2 s
        await others()
        self._take(served)

    async def watch(self) -> None:
        """Watch the bundle forever, and swap in each new version.

        A bundle that fails to load is skipped until it changes.
        """
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _EVERY)
            asked_by = "SIGHUP" if self._asked.is_set() else "folder"
            self._asked.clear()
            is_newly_accepted = await self._has_been_accepted()
            if await self._in_thread(self._fingerprint) != self._read:
                await self._reload(self._there, asked_by)
            elif is_newly_accepted and self._seen != self._digest:  # this worker could not load it, another one could
                await self._reload(self._kept, "another worker")

    def check_now(self) -> None:
        """Check at once whether there is another bundle."""
        self._asked.set()

    def close(self) -> None:
        """Start no loading any more."""
        gc.unfreeze()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def _digest(self) -> str:
        return self.current.digest if self.current else ""

    async def _has_been_accepted(self) -> bool:
        """Return whether workers have accepted a bundle since the last call."""
        before, self._seen = self._seen, await self._in_thread(self._accepted.digest) if self._accepted else ""
        return self._seen not in ("", before)

    async def _reload(self, load: Callable[[Attempt], Awaitable[ModelService]], asked_by: str) -> None:
        attempt = Attempt(self._digest, asked_by, self._metrics)
        try:
            self._take(await load(attempt))
            attempt.loaded(self._digest)
        except Exception as error:
            attempt.refused(error, await self._in_thread(self._stated))

    def _take(self, served: ModelService) -> None:
        self.current = served
        self._metrics.serves(served.digest, served.expid, served.written)
        if self._accepted:
            self._accepted.took(served.digest)

    async def _there(self, attempt: Attempt) -> ModelService:
        """Load the current bundle; again if the folder has changed meanwhile.

        It may have been a mixture, or incomplete.
        """
        while True:
            self._read = await self._in_thread(self._fingerprint)
            try:
                served = await self._beside(self._load, attempt)
            except Exception:
                if await self._in_thread(self._fingerprint) == self._read:
                    raise
            else:
                if await self._in_thread(self._fingerprint) == self._read:
                    return served
                del served
            await asyncio.sleep(_EVERY)

    async def _kept(self, attempt: Attempt) -> ModelService:
        assert self._accepted
        return await self._beside(self._accepted.load, attempt)

    async def _beside(self, load: Callable[[], Bundle], attempt: Attempt) -> ModelService:
        """Load in a thread, and check."""

        def serve() -> ModelService:
            attempt.bundle = load()
            served = self._serve(attempt.bundle)
            attempt.golden = served.golden
            if self.current and not self._allow_new_fields:
                served.require_fields_of(self.current)
            return served

        with short_turns():
            return await self._in_thread(serve)

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)


def background_thread() -> ThreadPoolExecutor:
    """One thread, of a lower priority where threads have one of their own."""
    return ThreadPoolExecutor(1, initializer=_give_way)


def _give_way() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


@contextmanager
def short_turns() -> Iterator[None]:
    """Make threads release the interpreter's lock sooner within the context."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
