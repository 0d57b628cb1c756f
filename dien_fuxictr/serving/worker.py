"""One serving process, alone or as a supervisor's worker.

The command is `python -m dien_fuxictr.serving.worker`.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from dien_fuxictr.common.errors import UserError, run_command

from .log import configure, tell
from .port import announce, listen
from .settings import Settings

WORKER = "dien_fuxictr.serving.worker"
UP, LOADED, ALIVE, TOOK = "up", "loaded", "alive", "took"
"""What a worker says: that it takes connections, that it has loaded, ALIVE with four numbers (connections taken so
far, those open, seconds since the turn of the model that runs has begun, seconds of all turns so far), TOOK with the
digest of the bundle that answers."""
GO_ON, CHECK_NOW, ASK, CONNECTION, CLOSE = b"g", b"l", b"a", b"c", b"x"
"""What it is told: that all have loaded; to check for another bundle; to say ALIVE; a connection, which comes with it;
CLOSE with how many connections to close after the next answers."""
GRACE = 30
"""Seconds that requests in flight have when a server is to end."""


def serve_alone(settings: Settings) -> None:
    """Serve in this process until a signal comes.

    Raises:
        UserError: the bundle is inconsistent, or the port is taken.
    """
    listener = listen(settings.host, settings.port)
    announce(settings.bundle, *listener.getsockname()[:2])
    _serve(settings, [listener])


class SupervisorLink:
    """The worker's end of the socket between it and its supervisor.

    The end of it is the end of the supervisor, however it has come.

    Args:
        number: number of the socket.

    Attributes:
        is_cut: the supervisor has ended.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._socket.setblocking(False)
        self._all_loaded = asyncio.Event()
        self.is_cut = False

    async def others(self) -> None:
        """Say that this one has loaded, and wait until all have."""
        self.say(LOADED)
        await self._all_loaded.wait()

    def took(self, digest: str) -> None:
        """Say which bundle this one answers with."""
        self.say(f"{TOOK} {digest}")

    def say(self, line: str) -> None:
        """Send a line to the supervisor, if it is there."""
        with suppress(OSError):
            self._socket.send(line.encode())

    def follow(
        self,
        connect: Callable[[socket.socket], object],
        check_now: Callable[[], object],
        state: Callable[[], str],
        close: Callable[[int], object],
        end: Callable[[], object],
    ) -> None:
        """Follow the supervisor's requests, in the running loop.

        Args:
            connect: takes a connection.
            check_now: checks whether there is another bundle.
            state: what ALIVE is said with.
            close: closes a number of connections after their next answers.
            end: called when the supervisor has ended.
        """

        def act() -> None:
            try:
                message, handles, *_ = socket.recv_fds(self._socket, 32, 1)
            except BlockingIOError:
                return
            except OSError:
                message, handles = b"", []
            if message == CONNECTION:
                for handle in handles:  # None if this process may not open more files
                    connect(socket.socket(fileno=handle))
            elif message == ASK:
                self.say(f"{ALIVE} {state()}")
            elif message.startswith(CLOSE):
                close(int(message.removeprefix(CLOSE)))
            elif message == GO_ON:
                self._all_loaded.set()
            elif message == CHECK_NOW:
                check_now()
            else:
                loop.remove_reader(self._socket)
                self.is_cut = True
                end()

        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket, act)
        self.say(UP)


def _serve(settings: Settings, listeners: list[socket.socket], link: SupervisorLink | None = None) -> None:
    import torch

    from .app import make_app
    from .connection import Clients, Server

    torch.set_num_threads(1)

    def end() -> None:
        server.should_exit = True

    others = {"others": link.others, "took": link.took} if link else {}
    app = make_app(settings, failed=end, **others)
    clients = Clients(
        head_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        idle_timeout=settings.idle_timeout,
        max_body=settings.max_body,
        max_connections=settings.max_connections,
        refused=app.metrics.refused_by_http,
        is_full=lambda: app.queue.is_full,
        refusal=app.refusal,
    )
    server = Server(app, clients, GRACE)
    signal.signal(signal.SIGHUP, lambda *_: app.check_now())
    if link:

        def state() -> str:
            queue, connections = app.queue, len(server.server_state.connections)
            return f"{server.taken} {connections} {queue.running_for():.3f} {queue.worked:.3f}"

        server.started_up = lambda: link.follow(server.connect, app.check_now, state, clients.close, end)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has answered the requests in flight
        server.run(listeners)
    if app.failure:
        raise app.failure


def main(arguments: list[str], link: SupervisorLink) -> int:
    """Serve as a worker.

    Args:
        arguments: the settings.
        link: link to the supervisor.
    """
    settings = Settings.from_json(arguments[0])
    configure(settings.log_format)
    try:
        _serve(settings, [], link)
    except UserError as error:
        link.say(" ".join(str(error).split()))
        return 2
    finally:
        if link.is_cut:
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(
        run_command(
            lambda: main(sys.argv[1:], SupervisorLink(sys.stdin.fileno())), "interrupted; nothing was served", tell=tell
        )
    )
