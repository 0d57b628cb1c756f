"""The version of a model that answers, and its successors: each is loaded beside it, then takes its place."""

import asyncio
import gc
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from dien_fuxictr.common.crash import summary
from dien_fuxictr.common.errors import UserError

from .background import background_thread, short_turns
from .metrics import Metrics
from .served import Served

T = TypeVar("T")
_EVERY = 1.0
"""Seconds from one look to the next."""


def mark_of(folder: Path) -> object:
    """What differs where another bundle is in the folder, also while it is written: where the folder leads to, and
    the inodes, sizes and times of the files in it."""
    target = os.path.realpath(folder)
    try:
        with os.scandir(target) as entries:
            states = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return target, ()
    return target, tuple(sorted((name, state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states))


class Versions:
    """What is in a bundle's folder, now and later.

    Args:
        load: reads the folder; what it returns has warmed up.
        mark: of the folder; it is read again where this differs.
        metrics: told which model answers, and of each reload.

    Attributes:
        current: what answers; None until the first is loaded. What is replaced is free when its last request is
            answered.
    """

    def __init__(self, load: Callable[[], Served], mark: Callable[[], object], metrics: Metrics) -> None:
        self._load, self._mark, self._metrics = load, mark, metrics
        self._read: object = None
        self._asked = asyncio.Event()
        self._thread = background_thread()
        self.current: Served | None = None

    async def first(self, others: Callable[[], Awaitable[None]]) -> None:
        """Load what is there, and answer with it when `others` have loaded too; raises what loading raises."""
        served = await self._beside()
        gc.freeze()  # what has come up to now stays: a collection that went through it would hold requests up for .2 s
        await others()
        self._take(served)

    async def watch(self) -> None:
        """Put what is new there in its place, without end; what cannot be loaded is refused until it changes."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), _EVERY)
            self._asked.clear()
            if await self._in_thread(self._mark) == self._read:
                continue
            try:
                self._take(await self._beside())
                self._metrics.reloaded("loaded")
            except Exception as error:
                reason = error if isinstance(error, UserError) else summary(error)
                logging.warning(f"not reloaded, the earlier model goes on: {reason}")
                self._metrics.reloaded("refused")

    def look(self) -> None:
        """Look at once."""
        self._asked.set()

    def close(self) -> None:
        """Start no loading any more."""
        gc.unfreeze()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _take(self, served: Served) -> None:
        if self.current:
            logging.warning(f"reloaded: {served.expid}, model {served.digest}, replaces model {self.current.digest}")
        self.current = served
        self._metrics.serves(served.digest, served.expid, served.written)

    async def _beside(self) -> Served:
        """Loaded in a thread, once more where the folder has changed meanwhile: it may be a mixture, or half of one."""
        while True:
            self._read = await self._in_thread(self._mark)
            try:
                with short_turns():
                    served = await self._in_thread(self._load)
            except Exception:
                if await self._in_thread(self._mark) == self._read:
                    raise
            else:
                if await self._in_thread(self._mark) == self._read:
                    return served
                del served
            await asyncio.sleep(_EVERY)

    def _in_thread(self, call: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call)
