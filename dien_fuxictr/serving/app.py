"""The server as an ASGI application, without a framework."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import orjson

from dien_fuxictr.dataset.encoding.online import FieldError

from .bundle import Bundle
from .metrics import CONTENT_TYPE, Metrics
from .request import Limits
from .served import Malformed, Served
from .versions import Versions

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = "application/json"
_RETRY = ((b"retry-after", b"1"),)


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Gone(Exception):
    """Nobody waits for the answer any more."""


async def _nobody() -> None:
    """There are no other workers."""


class App:
    """Loads a model and answers requests to it.

    It is alive at once and ready when the model is loaded and has warmed up. A request runs in one thread beside the
    loop, which goes on with health and metrics meanwhile, and ends with the version of the model that it began with.

    Args:
        load: reads the bundle.
        limits: of a request.
        max_body: bytes of a request.
        max_in_flight: requests at a time; what is more is refused.
        failed: called where the first bundle cannot be loaded.
        mark: differs where there is another bundle to load.
        others: awaited when the first bundle is loaded and has warmed up, before it is ready.
        accepts_at_once: whether connections are accepted, and told that the model is loading, before it is ready.

    Attributes:
        failure: what loading has failed with.
    """

    def __init__(
        self,
        load: Callable[[], Bundle],
        limits: Limits,
        max_body: int,
        max_in_flight: int,
        failed: Callable[[], None] = lambda: None,
        mark: Callable[[], object] = lambda: None,
        others: Callable[[], Awaitable[None]] = _nobody,
        accepts_at_once: bool = True,
    ) -> None:
        self._others, self._accepts_at_once = others, accepts_at_once
        self._failed = failed
        self._max_body, self._max_in_flight = max_body, max_in_flight
        metrics = self._metrics = Metrics()
        self._versions = Versions(lambda: Served(load(), limits, metrics), mark, metrics)
        self._in_flight = 0
        self._thread = ThreadPoolExecutor(1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Scope, Receive], Awaitable[Answer]]]] = {
            "/v1/score": (("POST",), partial(self._score, Served.answer_one)),
            "/v1/score:batch": (("POST",), partial(self._score, Served.answer_batch)),
            "/v1/model": (("GET",), self._model),
            "/v2/health/live": (("GET", "HEAD"), self._live),
            "/v2/health/ready": (("GET", "HEAD"), self._ready),
            "/metrics": (("GET",), self._text_of_metrics),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                await _send(await self._answer(scope, receive), send, with_body=scope["method"] != "HEAD")
            except Gone:
                return

    def look(self) -> None:
        """See at once whether there is another bundle; from a signal's handler or any thread."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._versions.look)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        self._loading = asyncio.create_task(self._start())
        watching = asyncio.create_task(self._watch(self._loading))
        if not self._accepts_at_once:
            await asyncio.wait([self._loading])
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._loop = None
        watching.cancel()
        await asyncio.wait([watching])
        self._versions.close()
        self._thread.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            await self._versions.first(self._others)
        except Exception as error:
            self.failure = error
            self._failed()

    async def _watch(self, loading: asyncio.Task[None]) -> None:
        await loading
        if not self.failure:
            await self._versions.watch()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        if path not in self._routes:
            return _error(404, f"there is no {path}; there are {', '.join(self._routes)}")
        methods, answer = self._routes[path]
        if scope["method"] not in methods:
            result = _error(405, f"{path} takes {' and '.join(methods)}", ((b"allow", ", ".join(methods).encode()),))
        else:
            try:
                result = await answer(scope, receive)
            except Gone:
                raise
            except Exception:
                logging.exception(f"{scope['method']} {path}")
                result = _error(500, "an error of the server; its log has it")
        self._metrics.answered(path, result.status)
        return result

    async def _score(self, answer: Callable[[Served, bytes], bytes], scope: Scope, receive: Receive) -> Answer:
        served = self._versions.current
        if served is None:
            return _error(503, "the model is loading", _RETRY)
        if self._in_flight >= self._max_in_flight:
            return _error(503, f"{self._in_flight} requests are being answered, as many as allowed", _RETRY)
        self._in_flight += 1
        self._metrics.in_flight.inc()
        try:
            body = await self._body(scope, receive)
            if body is None:
                return _error(413, f"the body is larger than {self._max_body} bytes", ((b"connection", b"close"),))
            return Answer(200, await asyncio.get_running_loop().run_in_executor(self._thread, answer, served, body))
        except Malformed as error:
            return _error(400, str(error))
        except FieldError as error:
            return _error(422, str(error), field=error.field)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.dec()

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None where it is too large."""
        if int(dict(scope["headers"]).get(b"content-length", 0)) > self._max_body:
            return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            body += message.get("body", b"")
            if len(body) > self._max_body:
                return None
            if not message.get("more_body"):
                return bytes(body)

    async def _model(self, *_: object) -> Answer:
        served = self._versions.current
        return Answer(200, served.describe()) if served else _error(503, "the model is loading", _RETRY)

    async def _live(self, *_: object) -> Answer:
        return Answer(200, b'{"live":true}')

    async def _ready(self, *_: object) -> Answer:
        return Answer(200, b'{"ready":true}') if self._versions.current else _error(503, "the model is loading", _RETRY)

    async def _text_of_metrics(self, *_: object) -> Answer:
        return Answer(200, self._metrics.text(), CONTENT_TYPE)


def _error(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **more: str) -> Answer:
    return Answer(status, orjson.dumps({"error": message, **more}), _JSON, headers)


async def _send(answer: Answer, send: Send, with_body: bool) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
