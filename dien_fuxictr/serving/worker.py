"""One process that serves, alone or as a worker of a supervisor: `python -m dien_fuxictr.serving.worker`."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from dien_fuxictr.common.errors import UserError, exit_code

from .port import announce, bind_beside, listen
from .settings import Settings

WORKER = "dien_fuxictr.serving.worker"
LOADED, TOOK = "loaded", "took "
LOOK = b"l"
GRACE = 30
"""Seconds that requests in flight have when a server is to end."""


def serve_alone(settings: Settings) -> None:
    """Serve in this process until a signal comes.

    Raises:
        UserError: the bundle does not fit itself, or the port is taken.
    """
    listener = listen(settings.host, settings.port)
    announce(settings.bundle, *listener.getsockname()[:2])
    _serve(settings, listener)


class Tie:
    """The worker's end of the socket between it and its supervisor.

    It says that it has loaded, or why it cannot, and then the digest of each bundle that it takes. The first byte that
    comes says that the others have loaded too, each LOOK after that asks to look for another bundle. The end of it is
    the end of the supervisor, however it has come.

    Args:
        number: of the socket.

    Attributes:
        is_cut: the supervisor has ended.
    """

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._go_on = threading.Event()
        self.is_cut = False

    async def others(self) -> None:
        """Say that this one has loaded, and wait until all have."""
        self.say(LOADED)
        while not self._go_on.is_set():
            await asyncio.sleep(0.02)

    def took(self, digest: str) -> None:
        """Say which bundle this one answers with."""
        self.say(f"{TOOK}{digest}")

    def say(self, line: str) -> None:
        """To the supervisor, if it is there."""
        with suppress(OSError):
            self._socket.sendall(f"{line}\n".encode())

    def follow(self, look: Callable[[], None], end: Callable[[], None]) -> None:
        """Do what the supervisor asks for, in a thread of its own."""

        def follow() -> None:
            with suppress(OSError):
                while byte := self._socket.recv(1):
                    if self._go_on.is_set() and byte == LOOK:
                        look()
                    self._go_on.set()
            self.is_cut = True
            end()

        threading.Thread(target=follow, daemon=True).start()


def _serve(settings: Settings, listener: socket.socket, tie: Tie | None = None, accepts_at_once: bool = True) -> None:
    import torch
    import uvicorn

    from .app import make_app

    torch.set_num_threads(1)
    server: uvicorn.Server

    def end() -> None:
        server.should_exit = True

    others = {"others": tie.others, "took": tie.took} if tie else {}
    app = make_app(settings, failed=end, accepts_at_once=accepts_at_once, **others)
    server = uvicorn.Server(
        uvicorn.Config(
            app,  # pyright: ignore[reportArgumentType]
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE,
        )
    )
    signal.signal(signal.SIGHUP, lambda *_: app.look())
    if tie:
        tie.follow(app.look, end)
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has answered what was in flight
        server.run([listener])
    if app.failure:
        raise app.failure


def main(arguments: list[str], tie: Tie) -> int:
    """Serve as a worker.

    Args:
        arguments: settings, and the number of a socket that listens already, if it is not to be its own.
        tie: to the supervisor.
    """
    settings = Settings.from_json(arguments[0])
    given = [socket.socket(fileno=int(number)) for number in arguments[1:]]
    (listener,) = given or [bind_beside(settings.host, settings.port)]
    try:
        _serve(settings, listener, tie, accepts_at_once=bool(given))
    except UserError as error:
        tie.say(" ".join(str(error).split()))
        return 2
    finally:
        if tie.is_cut:
            shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:], Tie(sys.stdin.fileno())), "interrupted; nothing was served"))
