"""The server as an ASGI application, without a framework, and its web page."""

import asyncio
import base64
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.experiment.explanation_page import read_page

from .asgi import (
    ACCEPTED,
    Answer,
    BadGzip,
    Receive,
    Scope,
    Send,
    TooLarge,
    UnknownCoding,
    error,
    is_packed,
    send_answer,
    unpacked,
)
from .bundle import Bundle, BundleLoader
from .hold import Hold
from .log import CURRENT, HEADER, id_of
from .manifest import stated_digest
from .model_service import Malformed, ModelService
from .queueing import BadDeadline, Full, Gone, Late, Queue, Steps, deadline_of
from .reloader import Accepted, Reloader, bundle_fingerprint
from .request import Limits
from .server_metrics import CONTENT_TYPE, NO_PATH, Metrics
from .settings import Settings

_MOST_HELD = 16
"""Bodies of the largest size that may be in memory at a time; what is more is refused."""


class BadQuery(ValueError):
    """A query that says neither yes nor no."""


def _says_unknown(query: bytes) -> bool:
    """Return whether an answer lists unknown ids; `?unknown=0` leaves them out."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("unknown", ["1"]) if query else ["1"]
    if values not in (["0"], ["1"]):
        raise BadQuery(f"unknown = {', '.join(values)[:20]!r} in the query must be 0 or 1")
    return values == ["1"]


def _busy(message: str) -> Answer:
    """Ask to come back, and not all at the same time."""
    return error(503, message, ((b"retry-after", b"%d" % random.randint(1, 3)),))


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
        fingerprint: differs where there is another bundle to load.
        others: awaited when the first bundle is loaded and has warmed up, before it is ready.
        accepts_at_once: whether connections are accepted, and told that the model is loading, before it is ready.
        stated, accepted, allow_new_fields: as of `Reloader`.

    Attributes:
        metrics: what is counted.
        queue: before the model.
        failure: what loading has failed with.
    """

    def __init__(
        self,
        load: Callable[[], Bundle],
        limits: Limits,
        max_body: int,
        max_in_flight: int,
        failed: Callable[[], None] = lambda: None,
        fingerprint: Callable[[], object] = lambda: None,
        others: Callable[[], Awaitable[None]] = _nobody,
        accepts_at_once: bool = True,
        stated: Callable[[], str] = lambda: "",
        accepted: Accepted | None = None,
        allow_new_fields: bool = False,
    ) -> None:
        self._others, self._accepts_at_once = others, accepts_at_once
        self._failed = failed
        self._max_body = max_body
        self._held = 0
        metrics = self.metrics = Metrics()
        self._reloader = Reloader(
            load=load,
            serve=lambda bundle: ModelService(bundle=bundle, limits=limits, metrics=metrics),
            fingerprint=fingerprint,
            stated=stated,
            metrics=metrics,
            accepted=accepted,
            allow_new_fields=allow_new_fields,
        )
        self.queue = Queue(max_in_flight, metrics)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loading: asyncio.Task[None] | None = None
        self.failure: Exception | None = None
        self._page = load_page()
        self._routes: dict[str, tuple[tuple[str, ...], Callable[[Scope, Receive], Awaitable[Answer]]]] = {
            "/v1/score": (("POST",), partial(self._score, ModelService.answer_one)),
            "/v1/score:batch": (("POST",), partial(self._score, ModelService.answer_batch)),
            "/v1/explain": (("POST",), partial(self._score, ModelService.answer_explained)),
            "/v1/model": (("GET",), partial(self._describe, ModelService.describe)),
            "/v1/examples": (("GET",), partial(self._describe, ModelService.examples)),
            "/v2/health/live": (("GET", "HEAD"), self._live),
            "/v2/health/ready": (("GET", "HEAD"), self._ready),
            "/metrics": (("GET",), self._text_of_metrics),
            "/": (("GET", "HEAD"), self._website),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            began, request_id = scope.setdefault("began", time.monotonic()), id_of(scope["headers"])
            CURRENT.set(request_id.decode())
            try:
                answer = await self._answer(scope, receive)
            except Gone:
                return
            await send_answer(answer, request_id, send, with_body=scope["method"] != "HEAD")
            if answer.status == 200 and scope["method"] == "POST":  # no health check
                self.metrics.took("request", time.monotonic() - began)

    def check_now(self) -> None:
        """Check for another bundle at once; can be called from any thread or handler."""
        if self._loop:
            self._loop.call_soon_threadsafe(self._reloader.check_now)

    def refusal(self, method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], began: float) -> Answer | None:
        """Return the answer to a request that is refused before its body; None: go on.

        Args:
            method: method of the request.
            url: URL of the request.
            headers: headers of the request.
            began: time at which its first byte came.
        """
        path = url.partition(b"?")[0].decode("latin-1")
        scores = method == b"POST" and path in self._routes and "POST" in self._routes[path][0]
        if not scores or not self._reloader.current:
            return None
        try:
            self.queue.require_place()
            self.queue.require_time(deadline_of(dict(headers), began))
            return None
        except BadDeadline:
            return None
        except Full as problem:
            answer = _busy(str(problem))
        except Late as problem:
            answer = error(504, str(problem))
        self.metrics.answered(path, answer.status)
        return answer._replace(headers=(*answer.headers, (HEADER, id_of(headers))))

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
        self._reloader.close()
        self.queue.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            await self._reloader.first(self._others)
        except Exception as problem:
            self.failure = problem
            self._failed()

    async def _watch(self, loading: asyncio.Task[None]) -> None:
        await loading
        if not self.failure:
            await self._reloader.watch()

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path = scope["path"]
        if path not in self._routes:
            self.metrics.answered(NO_PATH, 404)
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
                request_id = CURRENT.get()
                logging.exception(f"{scope['method']} {path}, request {request_id}")
                result = error(
                    500, "an error of the server; its log has it under this request_id", request_id=request_id
                )
        self.metrics.answered(path, result.status)
        return result

    async def _score(
        self, answer: Callable[[ModelService, bytes, bool], bytes | Steps], scope: Scope, receive: Receive
    ) -> Answer:
        served = self._reloader.current
        if served is None:
            return _busy("the model is loading")
        headers = dict(scope["headers"])
        try:
            unknown = _says_unknown(scope.get("query_string", b""))
            deadline = deadline_of(headers, scope["began"])
            packed = is_packed(scope["headers"])
            with self._body() as body:
                if not await self._read(body, headers, receive):
                    return error(413, f"the body is larger than {self._max_body} bytes", ((b"connection", b"close"),))
                with self.queue.place():
                    call = partial(self._in_turn, time.perf_counter(), answer, served, bytes(body), packed, unknown)
                    return Answer(200, await self.queue.run(call, receive, deadline))
        except (Malformed, BadDeadline, BadQuery, BadGzip) as problem:
            return error(400, str(problem))
        except TooLarge as problem:
            return error(413, str(problem))
        except UnknownCoding as problem:
            return error(415, str(problem), ((b"accept-encoding", ACCEPTED.encode()),))
        except FieldError as problem:
            return error(422, str(problem), field=problem.field)
        except Full as problem:
            scope["refused"] = True
            return _busy(str(problem))
        except Late as problem:
            return error(504, str(problem))

    def _in_turn(
        self,
        queued: float,
        answer: Callable[[ModelService, bytes, bool], bytes | Steps],
        served: ModelService,
        body: bytes,
        packed: bool,
        unknown: bool,
    ) -> bytes | Steps:
        """Unpack and answer in the model's thread.

        Work that takes long thus does not delay health checks.
        """
        self.metrics.took("queue", time.perf_counter() - queued)
        return answer(served, unpacked(body, self._max_body) if packed else body, unknown)

    @contextmanager
    def _body(self) -> Iterator[bytearray]:
        """Give a body a place in memory until the block ends."""
        body = bytearray()
        try:
            yield body
        finally:
            self._held -= len(body)

    async def _read(self, body: bytearray, headers: Mapping[bytes, bytes], receive: Receive) -> bool:
        """Read a body; returns False where it is too large.

        Raises:
            Full: too many bodies are in memory.
            Gone: the client went away.
        """
        if int(headers.get(b"content-length", 0)) > self._max_body:
            return False
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            if len(body) > self._max_body:
                return False
            if self._held > _MOST_HELD * self._max_body:
                raise Full("too many requests come at a time")
            if not message.get("more_body"):
                return True

    async def _website(self, *_: object) -> Answer:
        policy = (b"content-security-policy", self._page.policy.encode())
        return Answer(200, self._page.html, "text/html; charset=utf-8", (policy,))

    async def _describe(self, tell: Callable[[ModelService], bytes], *_: object) -> Answer:
        served = self._reloader.current
        return Answer(200, tell(served)) if served else _busy("the model is loading")

    async def _live(self, *_: object) -> Answer:
        return Answer(200, b'{"live":true}')

    async def _ready(self, *_: object) -> Answer:
        return Answer(200, b'{"ready":true}') if self._reloader.current else _busy("the model is loading")

    async def _text_of_metrics(self, *_: object) -> Answer:
        return Answer(200, self.metrics.text(), CONTENT_TYPE)


class Page(NamedTuple):
    """The web page.

    Attributes:
        html: UTF-8.
        policy: Content-Security-Policy, which only permits the page's own style and script.
    """

    html: bytes
    policy: str


def load_page() -> Page:
    """Return the web page with its style and script; it gets all data from the API."""
    page = read_page(Path(__file__).with_name("page"))
    allowed = {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "style-src": _hash(page.style),
        "script-src": _hash(page.script),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return Page(page.fill().encode(), "; ".join(" ".join(rule) for rule in allowed.items()))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def make_app(settings: Settings, took: Callable[[str], None] | None = None, **more: Any) -> App:
    """Build the application from settings.

    Args:
        settings: settings of the server.
        took: callback of a worker, see `Accepted`.
        more: further arguments of `App`.
    """
    folder = Path(settings.bundle)
    hold, load_there = Hold(folder), BundleLoader(folder, settings.gpu)

    def load() -> Bundle:
        hold.renew()
        return load_there()

    if took:
        kept = Path(settings.accepted)
        more["accepted"] = Accepted(
            digest=partial(stated_digest, kept), load=BundleLoader(kept, settings.gpu), took=took
        )
    return App(
        load=load,
        limits=Limits(candidates=settings.max_candidates, behaviours=settings.max_behaviours, users=settings.max_users),
        max_body=settings.max_body,
        max_in_flight=settings.max_in_flight,
        fingerprint=partial(bundle_fingerprint, folder),
        stated=partial(stated_digest, folder),
        allow_new_fields=settings.allow_new_fields,
        **more,
    )
