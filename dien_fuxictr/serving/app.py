"""The server as an ASGI application, without a framework."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from dien_fuxictr.dataset.encoding.online import FieldError

from .asgi import Answer, Receive, Scope, Send, error, send_answer
from .bundle import Bundle, Opener
from .hold import Hold
from .manifest import stated_digest
from .metrics import CONTENT_TYPE, Metrics
from .queueing import BadDeadline, Full, Gone, Late, Queue, deadline_of
from .request import Limits
from .served import Malformed, Served
from .settings import Settings
from .versions import Accepted, Versions, mark_of
from .website import packed

_RETRY = ((b"retry-after", b"1"),)


class BadQuery(ValueError):
    """A query that says neither yes nor no."""


def _says_unknown(query: bytes) -> bool:
    """Whether an answer says what is unknown; `?unknown=0` leaves it out."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("unknown", ["1"]) if query else ["1"]
    if values not in (["0"], ["1"]):
        raise BadQuery(f"unknown = {', '.join(values)[:20]!r} in the query must be 0 or 1")
    return values == ["1"]


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
        stated, accepted, allow_new_fields: as of `Versions`.

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
        stated: Callable[[], str] = lambda: "",
        accepted: Accepted | None = None,
        allow_new_fields: bool = False,
    ) -> None:
        self._others, self._accepts_at_once = others, accepts_at_once
        self._failed = failed
        self._max_body = max_body
        metrics = self._metrics = Metrics()
        self._versions = Versions(
            load, lambda bundle: Served(bundle, limits, metrics), mark, stated, metrics, accepted, allow_new_fields
        )
        self._queue = Queue(max_in_flight, metrics)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self._page = packed()
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Scope, Receive], Awaitable[Answer]]]] = {
            "/v1/score": (("POST",), partial(self._score, Served.answer_one)),
            "/v1/score:batch": (("POST",), partial(self._score, Served.answer_batch)),
            "/v1/explain": (("POST",), partial(self._score, Served.answer_explained)),
            "/v1/model": (("GET",), partial(self._told, Served.describe)),
            "/v1/examples": (("GET",), partial(self._told, Served.examples)),
            "/v2/health/live": (("GET", "HEAD"), self._live),
            "/v2/health/ready": (("GET", "HEAD"), self._ready),
            "/metrics": (("GET",), self._text_of_metrics),
            "/": (("GET", "HEAD"), self._website),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI calls it."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                await send_answer(await self._answer(scope, receive), send, with_body=scope["method"] != "HEAD")
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
        self._queue.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            await self._versions.first(self._others)
        except Exception as problem:
            self.failure = problem
            self._failed()

    async def _watch(self, loading: asyncio.Task[None]) -> None:
        await loading
        if not self.failure:
            await self._versions.watch()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        if path not in self._routes:
            return error(404, f"there is no {path}; there are {', '.join(self._routes)}")
        methods, answer = self._routes[path]
        if scope["method"] not in methods:
            result = error(405, f"{path} takes {' and '.join(methods)}", ((b"allow", ", ".join(methods).encode()),))
        else:
            try:
                result = await answer(scope, receive)
            except Gone:
                raise
            except Exception:
                logging.exception(f"{scope['method']} {path}")
                result = error(500, "an error of the server; its log has it")
        self._metrics.answered(path, result.status)
        return result

    async def _score(self, answer: Callable[[Served, bytes, bool], bytes], scope: Scope, receive: Receive) -> Answer:
        served = self._versions.current
        if served is None:
            return error(503, "the model is loading", _RETRY)
        headers = dict(scope["headers"])
        try:
            unknown = _says_unknown(scope.get("query_string", b""))
            deadline = deadline_of(headers)
            with self._queue.place():
                body = await self._body(headers, receive)
                if body is None:
                    return error(413, f"the body is larger than {self._max_body} bytes", ((b"connection", b"close"),))
                return Answer(200, await self._queue.run(partial(answer, served, body, unknown), receive, deadline))
        except (Malformed, BadDeadline, BadQuery) as problem:
            return error(400, str(problem))
        except FieldError as problem:
            return error(422, str(problem), field=problem.field)
        except Full as problem:
            return error(503, str(problem), _RETRY)
        except Late as problem:
            return error(504, str(problem))

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes | None:
        """None where it is too large."""
        if int(headers.get(b"content-length", 0)) > self._max_body:
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

    async def _website(self, *_: object) -> Answer:
        policy = (b"content-security-policy", self._page.policy.encode())
        return Answer(200, self._page.html, "text/html; charset=utf-8", (policy,))

    async def _told(self, tell: Callable[[Served], bytes], *_: object) -> Answer:
        served = self._versions.current
        return Answer(200, tell(served)) if served else error(503, "the model is loading", _RETRY)

    async def _live(self, *_: object) -> Answer:
        return Answer(200, b'{"live":true}')

    async def _ready(self, *_: object) -> Answer:
        return Answer(200, b'{"ready":true}') if self._versions.current else error(503, "the model is loading", _RETRY)

    async def _text_of_metrics(self, *_: object) -> Answer:
        return Answer(200, self._metrics.text(), CONTENT_TYPE)


def make_app(settings: Settings, took: Callable[[str], None] | None = None, **more: Any) -> App:
    """The application that settings describe.

    Args:
        settings: of the server.
        took: of a worker, as of `Accepted`.
        more: as of `App`.
    """
    folder = Path(settings.bundle)
    hold, open_there = Hold(folder), Opener(folder, settings.gpu)

    def load() -> Bundle:
        hold.renew()
        return open_there()

    if took:
        kept = Path(settings.accepted)
        more["accepted"] = Accepted(partial(stated_digest, kept), Opener(kept, settings.gpu), took)
    return App(
        load,
        Limits(settings.max_candidates, settings.max_behaviours),
        settings.max_body,
        settings.max_in_flight,
        mark=partial(mark_of, folder),
        stated=partial(stated_digest, folder),
        allow_new_fields=settings.allow_new_fields,
        **more,
    )
