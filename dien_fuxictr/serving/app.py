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


class App:
    """Loads a model and answers requests to it.

    It is alive at once and ready when the model is loaded and has warmed up. A request runs in one thread beside the
    loop, which goes on with health and metrics meanwhile.

    Args:
        load: reads the bundle.
        limits: of a request.
        max_body: bytes of a request.
        max_in_flight: requests at a time; what is more is refused.
        failed: called where loading fails.

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
    ) -> None:
        self._load, self._limits, self._failed = load, limits, failed
        self._max_body, self._max_in_flight = max_body, max_in_flight
        self._metrics = Metrics()
        self._served: Served | None = None
        self._in_flight = 0
        self._thread = ThreadPoolExecutor(1)
        self._loading: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self._routes: dict[str, tuple[str, Callable[[Scope, Receive], Awaitable[Answer]]]] = {
            "/v1/score": ("POST", partial(self._score, Served.answer_one)),
            "/v1/score:batch": ("POST", partial(self._score, Served.answer_batch)),
            "/v1/model": ("GET", self._model),
            "/v2/health/live": ("GET", self._live),
            "/v2/health/ready": ("GET", self._ready),
            "/metrics": ("GET", self._text_of_metrics),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                await _send(await self._answer(scope, receive), send)
            except Gone:
                return

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.startup":
                self._loading = asyncio.create_task(self._start())
            else:
                self._thread.shutdown(wait=False, cancel_futures=True)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def _start(self) -> None:
        def served() -> Served:
            return Served(self._load(), self._limits, self._metrics)

        try:
            self._served = await asyncio.get_running_loop().run_in_executor(self._thread, served)
        except Exception as error:
            self.failure = error
            self._failed()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        if path not in self._routes:
            return _error(404, f"there is no {path}; there are {', '.join(self._routes)}")
        method, answer = self._routes[path]
        if scope["method"] != method:
            result = _error(405, f"{path} takes {method}", ((b"allow", method.encode()),))
        else:
            try:
                result = await answer(scope, receive)
            except Gone:
                raise
            except Exception:
                logging.exception(f"{method} {path}")
                result = _error(500, "an error of the server; its log has it")
        self._metrics.answered(path, result.status)
        return result

    async def _score(self, answer: Callable[[Served, bytes], bytes], scope: Scope, receive: Receive) -> Answer:
        if self._served is None:
            return _error(503, "the model is loading", _RETRY)
        if self._in_flight >= self._max_in_flight:
            return _error(503, f"{self._in_flight} requests are being answered, as many as allowed", _RETRY)
        served = self._served
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
        if self._served is None:
            return _error(503, "the model is loading", _RETRY)
        return Answer(200, self._served.describe())

    async def _live(self, *_: object) -> Answer:
        return Answer(200, b'{"live":true}')

    async def _ready(self, *_: object) -> Answer:
        return Answer(200, b'{"ready":true}') if self._served else _error(503, "the model is loading", _RETRY)

    async def _text_of_metrics(self, *_: object) -> Answer:
        return Answer(200, self._metrics.text(), CONTENT_TYPE)


def _error(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **more: str) -> Answer:
    return Answer(status, orjson.dumps({"error": message, **more}), _JSON, headers)


async def _send(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
