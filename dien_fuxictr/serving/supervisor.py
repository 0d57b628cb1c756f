"""Several workers on one port: starts them, starts them again when they die, ends them.

It loads no model, nor torch, and does not hear of a request. uvicorn has a supervisor too, but it puts all workers on
one socket (see `port.py`), restarts them all at SIGHUP, starts one that dies at once again without end, kills one whose
imports take longer than its health check, and leaves them behind when it is killed itself.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from dien_fuxictr.common.errors import UserError, exit_code, fail

from .kept import Kept
from .port import BACKLOG, announce, bind_beside, reserve
from .settings import Settings
from .worker import GRACE, LOADED, LOOK, TOOK, WORKER

_TOP = Path(__file__).parents[2]
_FIRST_PAUSE, _LONGEST_PAUSE = 1, 32
"""Seconds from a worker's death to the next one's start; doubled where that one dies within `_LASTING` seconds."""
_LASTING = 60


def become_supervisor(settings: Settings) -> None:
    """Serve with several workers, in the place of this process: what it has imported is 280 MB that nobody needs."""
    sys.stdout.flush()
    path = os.pathsep.join(filter(None, [str(_TOP), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    os.execve(sys.executable, [sys.executable, "-m", __name__, settings.to_json()], environment)


class _Worker:
    """A process, and the supervisor's end of the socket between them.

    Attributes:
        has_loaded: it serves, or waits for the others.
        problem: why it cannot load, in its own words.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, tie: asyncio.StreamWriter
    ) -> None:
        self.process, self._reader, self._tie = process, reader, tie
        self.has_loaded, self.problem = False, ""

    @classmethod
    async def start(cls, settings: Settings, metrics: str, listener: socket.socket | None) -> "_Worker":
        """Start it with a socket that listens already or, None, its own when it has loaded."""
        given = [listener.fileno()] if listener else []
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", WORKER, settings.to_json(), *map(str, given)),
                stdin=its.fileno(),
                pass_fds=given,
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": metrics},
                start_new_session=True,  # Ctrl-C reaches it from here alone
            )
        return cls(process, *await asyncio.open_connection(sock=ours))

    async def load(self) -> None:
        """Wait until it has loaded, has said why it cannot, or has died."""
        line = (await self._reader.readline()).decode().rstrip("\n")
        self.has_loaded = line == LOADED
        self.problem = "" if self.has_loaded else line

    async def taken(self) -> AsyncIterator[str]:
        """The digest of each bundle that it takes, until it ends."""
        while line := (await self._reader.readline()).decode():
            yield line.removeprefix(TOOK).rstrip("\n")

    def nudge(self, byte: bytes) -> None:
        """Let it go on with the others or, later, by LOOK, look for another bundle."""
        self._tie.write(byte)

    def end(self, number: int) -> None:
        """Send it a signal; one that has not loaded has nothing to lose."""
        if self.process.returncode is None:
            self.process.send_signal(number if self.has_loaded else signal.SIGKILL)

    async def ended(self) -> str:
        """Wait for its end; says how it has ended."""
        code = await self.process.wait()
        self.has_loaded = False
        self._tie.close()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"worker process {self.process.pid} has ended with {how}"


class WorkerDied(RuntimeError):
    """One of the first workers, before it had loaded; the message says how."""


class Supervisor:
    """Keeps workers running.

    Args:
        settings: of each.
        metrics: the folder in which they count.
        listeners: of the first ones, which say that they are alive while they load; closed when they have them.
    """

    def __init__(self, settings: Settings, metrics: str, listeners: list[socket.socket]) -> None:
        self._metrics, self._listeners = metrics, listeners
        self._workers: dict[int, _Worker] = {}
        self._kept = Kept(Path(metrics))
        self._settings = replace(settings, accepted=str(self._kept.link))
        self._have_loaded = False
        self._ending = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Until a signal comes.

        Raises:
            UserError: the first workers cannot load the bundle.
            WorkerDied: one of the first has.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._nudge, LOOK)
        keepers = [asyncio.create_task(self._keep(*each)) for each in enumerate(self._listeners)]
        await self._ending.wait()
        await asyncio.wait(keepers, timeout=GRACE + 5)
        self._end(signal.SIGKILL)
        await asyncio.gather(*keepers)
        if self._failure:
            raise self._failure

    async def _keep(self, place: int, listener: socket.socket | None) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            start = time.monotonic()
            worker = self._workers[place] = await _Worker.start(self._settings, self._metrics, listener)
            if listener:
                listener.close()
            if self._ending.is_set():
                worker.end(signal.SIGKILL)
            await worker.load()
            self._nudge()
            async for digest in worker.taken():
                self._kept.keep(Path(self._settings.bundle), digest)
            end = await worker.ended()
            mark_process_dead(worker.process.pid, self._metrics)
            if self._ending.is_set():
                return
            if not self._have_loaded:
                self._failure = (
                    UserError(worker.problem) if worker.problem else WorkerDied(f"{end} before all workers had loaded")
                )
                self._end(signal.SIGTERM)
                return
            pause = _FIRST_PAUSE if time.monotonic() - start > _LASTING else pause
            logging.warning(f"{end}{f': {worker.problem}' if worker.problem else ''}; another one starts in {pause} s")
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause, listener = min(2 * pause, _LONGEST_PAUSE), None

    def _nudge(self, byte: bytes = b".") -> None:
        """Those that have loaded go on, once all first ones have; by LOOK, those that serve look for another bundle."""
        loaded = [worker for worker in self._workers.values() if worker.has_loaded]
        self._have_loaded |= len(loaded) == len(self._listeners)
        for worker in loaded if self._have_loaded else ():
            worker.nudge(byte)

    def _end(self, number: int) -> None:
        self._ending.set()
        for worker in self._workers.values():
            worker.end(number)


def main(arguments: list[str]) -> int:
    """Serve until a signal comes; `arguments` are the settings."""
    settings = Settings.from_json(arguments[0])
    with reserve(settings.host, settings.port) as reserved, tempfile.TemporaryDirectory(prefix="run_serve-") as metrics:
        settings = replace(settings, port=reserved.getsockname()[1])
        listeners = [bind_beside(settings.host, settings.port) for _ in range(settings.workers)]
        for listener in listeners:
            listener.listen(BACKLOG)
        announce(settings.bundle, *reserved.getsockname()[:2])
        try:
            asyncio.run(Supervisor(settings, metrics, listeners).run())
        except WorkerDied as error:
            return fail(str(error), 1)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:]), "interrupted; nothing was served"))
