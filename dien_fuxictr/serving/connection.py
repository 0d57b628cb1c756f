"""The HTTP server: uvicorn's, with limits on the cost of incomplete requests.

uvicorn does not limit the bytes of headers, nor the time that headers, a body or the first request take. It accepts a
protocol class for this, `uvicorn.Config(http=...)`.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .asgi import Answer, error

_MOST_HEAD = 32 << 10
"""Bytes of a request's line and headers, what proxies send at most by default."""
_REST = 0.3
"""Seconds that nothing is read from a connection whose request was refused because the server is full, and that one
stays open that is refused for good. A client that asks again at once costs little that way."""
_REFUSALS = 200
"""Per second: the more connections rest, the longer each one does."""
_HEAD, _BODY = "headers", "body"
_TOO_LARGE_HEAD = 431, f"the headers are larger than {_MOST_HEAD} bytes"


@dataclass
class Clients:
    """Limits on clients, and the connections that the server waits for.

    Attributes:
        head_timeout: seconds from a connection, or the first byte of a later request, to the end of the headers.
        body_timeout: seconds from the end of the headers to the end of the body, and for a client to read an answer.
        idle_timeout: seconds between an answer and the next request.
        max_body: bytes.
        max_connections: number of simultaneous connections. One more closes the connection whose client is waited for
            longest.
        refused: called with the status of each request that does not reach the application.
        is_full: whether a request would be refused now; a new connection is then read after a pause.
        refusal: returns the answer to a request that is refused after its headers, from its method, URL, headers and
            `began`; None: the application gets it.
        waited_for: connections without a complete request, in the order of time.
        resting: number of connections that are not read for a while.
        to_close: number of connections that are closed after their next answers, because another process has less to
            do.
    """

    head_timeout: float
    body_timeout: float
    idle_timeout: float
    max_body: int
    max_connections: int
    refused: Callable[[int], object]
    is_full: Callable[[], bool]
    refusal: Callable[[bytes, bytes, list[tuple[bytes, bytes]], float], Answer | None]
    waited_for: dict["Connection", None] = field(default_factory=dict)
    resting: int = 0
    to_close: int = 0

    def close(self, count: int) -> None:
        """Close `count` connections after their next answers; replaces earlier calls."""
        self.to_close = count


class Connection(HttpToolsProtocol):
    """A protocol of asyncio.

    In the scope of a request, `began` is the time of its first byte, in seconds of `time.monotonic`. The application
    sets `refused` there when it refuses the request because it is full.

    Args:
        clients: clients of the server.
        of_uvicorn: what uvicorn gives its protocols.
    """

    def __init__(self, clients: Clients, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._clients = clients
        self.timeout_keep_alive = clients.idle_timeout  # pyright: ignore[reportAttributeAccessIssue]
        self._part: str | None = _HEAD
        self._timed: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._bytes = self._head_bytes = 0
        self._held: bytearray | None = None
        self._problem = 400, "this is no HTTP request"
        self._refusal: Answer | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Register the connection; close another one if there are too many."""
        super().connection_made(transport)
        clients = self._clients
        clients.waited_for[self] = None
        if len(self.connections) > clients.max_connections:
            next(iter(clients.waited_for)).transport.abort()
        self._time_part()
        if clients.is_full():
            self._rest(_REST)  # briefly: it may be a probe

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the timers and the place of the connection."""
        self._part = None
        self._time_part()
        self.resume_writing()
        self._clients.waited_for.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, within the limits."""
        if self._is_refused:
            return
        if self._held is not None:
            self._held += data
            self.flow.pause_reading()  # only now, so that the end of a connection is noticed
            return
        self._unset_keepalive_if_required()
        self._bytes += len(data)
        try:
            self.parser.feed_data(data)  # pyright: ignore[reportOptionalMemberAccess]
        except httptools.HttpParserUpgrade:
            pass  # no protocol is offered: the request is answered as if it had not asked for one
        except httptools.HttpParserError:
            self._refuse(*self._problem)
            return
        if self._part == _HEAD and self._bytes > _MOST_HEAD:
            self._refuse(*_TOO_LARGE_HEAD)
        elif self._part == _BODY and self._bytes > _MOST_HEAD + 2 * self._clients.max_body:  # chunks have lengths, too
            self._refuse(413, f"the body is larger than {self._clients.max_body} bytes")
        else:
            self._time_part()

    def on_message_begin(self) -> None:
        """Start to time and count the headers of a request."""
        super().on_message_begin()
        self.scope["began"] = time.monotonic()  # pyright: ignore[reportGeneralTypeIssues]
        self._part = _HEAD
        self._bytes = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Count the bytes of the URL."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the bytes of a header."""
        self._count_head(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Decide whether the request is refused before its body."""
        self._part = _BODY
        is_first = self.cycle is None or self.cycle.response_complete  # not a request that waits for answers to others
        if is_first and self._held is None and not self.expect_100_continue:
            method: bytes = self.parser.get_method()  # pyright: ignore[reportOptionalMemberAccess]
            began = self.scope["began"]  # pyright: ignore[reportTypedDictNotRequiredAccess, reportGeneralTypeIssues]
            self._refusal = self._clients.refusal(method, self.url, self.headers, began)
        if self._refusal:
            return  # there is no task to pass it to
        super().on_headers_complete()
        if self._clients.to_close and self.cycle.keep_alive:
            self._clients.to_close -= 1
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Collect the body, within its limit."""
        if not self._refusal and not self.cycle.response_complete:
            self.cycle.body += body
            if len(self.cycle.body) > HIGH_WATER_LIMIT:  # otherwise the application gets the body when it is complete
                super().on_body(b"")

    def on_message_complete(self) -> None:
        """Answer a refused request; pass on any other."""
        self._part = None
        self._clients.waited_for.pop(self, None)
        if self._refusal:
            self._answer(self._refusal)
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request of the connection."""
        refused = self.cycle.scope.get("refused")
        super().on_response_complete()
        if self.cycle.response_complete and self._part is None and not self.transport.is_closing():
            self._clients.waited_for[self] = None
        if refused:
            self._rest_longer()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # the client does not read its answer, so that `close` would wait for it
        super().timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        """Stop writing to a slow client, for a limited time."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(self._clients.body_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """Write again to a client that has read."""
        super().resume_writing()
        if self._write_timer:
            self._write_timer.cancel()

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > _MOST_HEAD:
            self._problem = _TOO_LARGE_HEAD
            raise ValueError  # to the parser, which ends

    def _time_part(self) -> None:
        """Limit the time of the part of a request that comes now."""
        if self._part == self._timed:
            return
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._timed = self._part
        if self._part:
            seconds = self._clients.head_timeout if self._part == _HEAD else self._clients.body_timeout
            message = f"the {self._part} did not come within {seconds:g} s"
            self._timer = self.loop.call_later(seconds, self._refuse, 408, message)

    def _answer(self, refusal: Answer) -> None:
        """Answer a request that the application has not got."""
        self._refusal = None
        goes_on: bool = self.parser.should_keep_alive()  # pyright: ignore[reportOptionalMemberAccess]
        self._write(refusal, goes_on)
        if not goes_on:
            self.transport.close()
            return
        self._clients.waited_for[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        if refusal.status == 503:
            self._rest_longer()

    def _refuse(self, status: int, message: str) -> None:
        """Close the connection after a pause, with an answer unless another is under way."""
        if self.transport.is_closing() or self._is_refused:
            return
        if self.headers is None:  # pyright: ignore[reportUnnecessaryComparison]
            self.transport.close()  # there is no request to answer
            return
        self._clients.refused(status)
        if self.cycle and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.abort()
            return
        self._write(error(status, message), goes_on=False)
        self._is_refused, self._part = True, None
        self._time_part()
        self.flow.pause_reading()
        self.loop.call_later(_REST, self.transport.close)

    def _write(self, answer: Answer, goes_on: bool) -> None:
        parts = [b"%s: %s\r\n" % header for header in answer.fields()]
        closes = [] if goes_on else [b"connection: close\r\n"]
        self.transport.write(b"".join([STATUS_LINE[answer.status], *parts, *closes, b"\r\n", answer.body]))

    def _rest_longer(self) -> None:
        self._rest(_REST + self._clients.resting / _REFUSALS)

    def _rest(self, seconds: float) -> None:
        self._held = bytearray()
        self._clients.resting += 1
        self.loop.call_later(seconds, self._read_on)

    def _read_on(self) -> None:
        held, self._held = self._held, None
        self._clients.resting -= 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if held:
                self.data_received(bytes(held))


class Server(uvicorn.Server):
    """uvicorn's, which takes connections that another process has accepted, too.

    Args:
        app: the application.
        clients: what they may cost.
        grace: seconds that requests in flight have when it is to end.

    Attributes:
        taken: connections from elsewhere.
        started_up: called in the loop when it runs.
    """

    def __init__(self, app: Any, clients: Clients, grace: int) -> None:
        config = uvicorn.Config(
            app,
            http=partial(Connection, clients),  # pyright: ignore[reportArgumentType]
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the client's address is never read
            ws="none",
            timeout_graceful_shutdown=grace,
        )
        super().__init__(config)
        self.taken = 0
        self.started_up: Callable[[], object] = lambda: None
        self._connecting: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and report it."""
        await super().startup(sockets)
        self.started_up()

    def connect(self, accepted: socket.socket) -> None:
        """Take a connection."""
        self.taken += 1
        task = asyncio.create_task(self._connect(accepted))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        protocol = partial(
            self.config.http_protocol_class,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=loop,
        )
        with suppress(OSError):  # the client has disconnected already
            await loop.connect_accepted_socket(protocol, accepted)
