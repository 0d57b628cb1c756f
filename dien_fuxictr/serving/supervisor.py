"""Supervisor of several workers on one port: starts, restarts and ends them.

It loads neither a model nor torch, and does not see requests. uvicorn has a supervisor, too, but it puts all workers on
one socket, from which the first to wake takes all waiting connections (of 64 connections under load, four workers got
59, 4, 1 and 0). It also restarts all workers at SIGHUP, always restarts a worker that dies at once, kills a worker
whose imports take longer than its health check, and leaves workers behind when it is killed.
"""

import asyncio
import itertools
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

from dien_fuxictr.common.errors import UserError, run_command

from .kept import Kept
from .log import configure, tell
from .port import announce, listen
from .settings import SILENT, Settings
from .worker import ALIVE, ASK, CHECK_NOW, CLOSE, CONNECTION, GO_ON, GRACE, LOADED, TOOK, UP, WORKER

_TOP = Path(__file__).parents[2]
_FIRST_PAUSE, _LONGEST_PAUSE = 1, 32
"""Seconds from a worker's death to the next one's start; doubled where that one dies within `_LASTING` seconds."""
_LASTING = 60
_BEAT = 0.25
"""Seconds from one question to a worker whether it is alive to the next."""
_EVEN_EVERY = 8
"""Beats between two looks whether one worker has more to do than another."""
_IDLE = 0.1
"""Seconds of work between two looks that weigh as much as the connections do: where there is less, it says little."""


def become_supervisor(settings: Settings) -> None:
    """Replace this process by the supervisor of several workers.

    The imports of this process, 280 MB, are not needed any more.
    """
    sys.stdout.flush()
    path = os.pathsep.join(filter(None, [str(_TOP), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    os.execve(sys.executable, [sys.executable, "-m", __name__, settings.to_json()], environment)


class _Worker:
    """A process, and the supervisor's end of the socket between them.

    Attributes:
        is_up: it takes connections.
        has_loaded: it serves, or waits for the others.
        problem: why it cannot load, in its own words.
        connections: how many it has, as far as is known.
        load: how many it has of all connections if each counts by its work.
    """

    def __init__(self, process: asyncio.subprocess.Process, link: socket.socket, took: Callable[[str], object]) -> None:
        self.process, self._link, self._took = process, link, took
        self.is_up = self.has_loaded = False
        self.problem = ""
        self._settled = asyncio.Event()
        self._asked: float | None = None
        self._given = self._taken = self._open = 0
        self._turn = self._worked = self._seen = self.load = 0.0
        asyncio.get_running_loop().add_reader(link, self._hear)

    @classmethod
    async def start(cls, settings: Settings, metrics: str, took: Callable[[str], object]) -> "_Worker":
        """Start it; `took` is told the digest of each bundle that it answers with."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", WORKER, settings.to_json()),
                stdin=its.fileno(),
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": metrics},
                start_new_session=True,  # the worker only gets Ctrl-C from here
            )
        return cls(process, ours, took)

    async def settle(self) -> None:
        """Wait until it has loaded, has said why it cannot, or has died."""
        await self._settled.wait()

    @property
    def connections(self) -> int:
        return self._open + self._given - self._taken

    def work(self) -> float:
        """Return the seconds that its model has worked since the last call."""
        seen, self._seen = self._seen, self._worked
        return self._worked - seen

    def silent_for(self) -> float:
        """Return the seconds for which it has not answered."""
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    def hangs_for(self) -> float:
        """Return the seconds without an answer, or of a turn that has not ended."""
        return max(self.silent_for(), self._turn) if self.has_loaded else 0.0

    def ask(self) -> None:
        """Ask whether it is alive, unless it has been asked."""
        if self.is_up and self._asked is None and self.tell(ASK):
            self._asked = time.monotonic()

    def give(self, connection: socket.socket) -> bool:
        """Give it a connection; returns False where it hears nothing."""
        try:
            socket.send_fds(self._link, [CONNECTION], [connection.fileno()])
        except OSError:
            return False
        self._given += 1
        self.load += 1
        return True

    def tell(self, what: bytes) -> bool:
        """Say something to it; returns False where it hears nothing."""
        try:
            self._link.send(what)
        except OSError:
            return False
        return True

    def end(self, number: int) -> None:
        """Send it a signal; one that has not loaded has nothing to lose."""
        if self.process.returncode is None:
            self.process.send_signal(number if self.has_loaded else signal.SIGKILL)

    async def ended(self) -> str:
        """Wait for its end; says how it has ended."""
        code = await self.process.wait()
        self.is_up = self.has_loaded = False
        self._deafen()
        self._link.close()
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"worker process {self.process.pid} has ended with {how}"

    def _hear(self) -> None:
        try:
            said = self._link.recv(1 << 16).decode()
        except BlockingIOError:
            return
        except OSError:
            said = ""
        if said == UP:
            self.is_up = True
        elif said == LOADED:
            self.has_loaded = True
            self._settled.set()
        elif said.startswith(ALIVE):
            taken, connections, turn, worked = said.split()[1:]
            self._taken, self._open, self._turn, self._worked = int(taken), int(connections), float(turn), float(worked)
            self._asked = None
        elif said.startswith(TOOK):
            self._took(said.split()[1])
        else:  # the worker's problem or, if empty, its end
            self.problem = said
            self._deafen()

    def _deafen(self) -> None:
        asyncio.get_running_loop().remove_reader(self._link)
        self._settled.set()


class WorkerDied(RuntimeError):
    """One of the first workers, before it had loaded; the message says how."""


class Supervisor:
    """Supervisor that keeps workers running, and distributes connections by load.

    Args:
        settings: settings of each worker.
        metrics: the folder in which workers count.
        listener: socket of new connections.
    """

    def __init__(self, settings: Settings, metrics: str, listener: socket.socket) -> None:
        self._metrics, self._listener = metrics, listener
        listener.setblocking(False)
        self._workers: dict[int, _Worker] = {}
        self._kept = Kept(Path(metrics))
        self._settings = replace(settings, accepted=str(self._kept.link))
        self._have_loaded = self._accepts = False
        self._ending = asyncio.Event()
        self._failure: Exception | None = None

    async def run(self) -> None:
        """Run until a signal comes.

        Raises:
            UserError: the first workers cannot load the bundle.
            WorkerDied: one of the first has.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number)
        loop.add_signal_handler(signal.SIGHUP, self._tell_all, CHECK_NOW)
        keepers = [asyncio.create_task(self._keep(place)) for place in range(self._settings.workers)]
        beating = asyncio.create_task(self._beat())
        await self._ending.wait()
        beating.cancel()
        self._accept_while(False)
        self._listener.close()
        await asyncio.wait(keepers, timeout=GRACE + 5)
        self._end(signal.SIGKILL)
        await asyncio.gather(*keepers)
        if self._failure:
            raise self._failure

    async def _keep(self, place: int) -> None:
        pause = _FIRST_PAUSE
        while not self._ending.is_set():
            start = time.monotonic()
            worker = self._workers[place] = await _Worker.start(self._settings, self._metrics, self._keep_bundle)
            if self._ending.is_set():
                worker.end(signal.SIGKILL)
            await worker.settle()
            self._tell_all(GO_ON)
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
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _beat(self) -> None:
        """Ask the workers forever whether they are alive; kill silent workers."""
        for beat in itertools.count():
            for worker in self._workers.values():
                worker.ask()
                if (seconds := worker.hangs_for()) > self._settings.worker_timeout:
                    logging.warning(f"worker process {worker.process.pid} has not answered for {seconds:.0f} s: killed")
                    worker.end(signal.SIGKILL)
            if beat % _EVEN_EVERY == 0:
                self._even_out()
            self._accept_while(bool(self._takers()))
            await asyncio.sleep(_BEAT)

    def _takers(self) -> list[_Worker]:
        """Return the workers that accept connections, the best first.

        If any has loaded a model, the others are left out.
        """
        answering = [worker for worker in self._workers.values() if worker.is_up and worker.silent_for() < SILENT]
        loaded = [worker for worker in answering if worker.has_loaded]
        return sorted(loaded or answering, key=lambda worker: (worker.silent_for() > _BEAT, worker.load))

    def _accept_while(self, somebody_takes: bool) -> None:
        """Accept connections, or let them wait in the kernel."""
        loop = asyncio.get_running_loop()
        if somebody_takes and not self._accepts:
            loop.add_reader(self._listener, self._accept)
        elif self._accepts and not somebody_takes:
            loop.remove_reader(self._listener)
        self._accepts = somebody_takes

    def _accept(self) -> None:
        takers = self._takers()
        if not takers:
            self._accept_while(False)
            return
        try:
            connection, _ = self._listener.accept()
        except OSError:  # the client has disconnected, or too many files are open
            return
        with connection:
            any(worker.give(connection) for worker in takers)

    def _even_out(self) -> None:
        """Make a worker with more than its share of work close some connections.

        It closes them after its next answers. Connections differ: a client may reuse one again and again, and keep
        others for peaks.
        """
        takers = self._takers()
        work = [worker.work() for worker in takers]
        connections = sum(worker.connections for worker in takers)
        share = connections / max(len(takers), 1)
        for worker, seconds in zip(takers, work, strict=True):
            worker.load = (seconds * connections + _IDLE * worker.connections) / (sum(work) + _IDLE)
            count = int(worker.load - share) if worker.load > 1.1 * share else 0
            worker.load -= count
            worker.tell(b"%s%d" % (CLOSE, count))

    def _keep_bundle(self, digest: str) -> None:
        self._kept.keep(Path(self._settings.bundle), digest)

    def _tell_all(self, what: bytes) -> None:
        """Tell all workers that have loaded, once all first workers have."""
        loaded = [worker for worker in self._workers.values() if worker.has_loaded]
        self._have_loaded |= len(loaded) == self._settings.workers
        for worker in loaded if self._have_loaded else ():
            worker.tell(what)

    def _end(self, number: int) -> None:
        self._ending.set()
        for worker in self._workers.values():
            worker.end(number)


def main(arguments: list[str]) -> int:
    """Serve until a signal comes; `arguments` are the settings."""
    settings = Settings.from_json(arguments[0])
    configure(settings.log_format)
    with listen(settings.host, settings.port) as listener, tempfile.TemporaryDirectory(prefix="run_serve-") as metrics:
        announce(settings.bundle, *listener.getsockname()[:2])
        try:
            asyncio.run(Supervisor(settings, metrics, listener).run())
        except WorkerDied as error:
            return tell(str(error), 1)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "interrupted; nothing was served", tell=tell))
