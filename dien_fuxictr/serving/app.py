"""Server as an ASGI application, without a framework, and its web page."""

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

import orjson

from dien_fuxictr.dataset.encoding.online import FieldError
from dien_fuxictr.experiment.explanation_page import read_page

from .asgi import (
    ACCEPTED,
    Answer,
    Receive,
    Scope,
    Send,
    Unread,
    error,
    is_packed,
    send_answer,
    unpacked,
)
from .bundle import Bundle, BundleLoader
from .hold import Hold
from .log import CURRENT, HEADER, id_of
from .manifest import stated_digest
from .model_service import ModelService
from .openapi import REFUSALS, BadQuery, Endpoint, Loading, openapi_document, refusal_of
from .queueing import BadDeadline, Full, Gone, Late, Queue, Steps, deadline_of
from .reloader import Accepted, Reloader, bundle_fingerprint
from .request import Limits
from .server_metrics import CONTENT_TYPE, NO_PATH, Metrics
from .settings import Settings

_HTML = "text/html; charset=utf-8"
_MOST_HELD = 16
"""Bodies of the largest size that may be in memory at a time; what is more is refused."""


def _says_unknown(query: bytes) -> bool:
    """Return whether an answer lists unknown ids; `?unknown=0` leaves them out."""
    values = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("unknown", ["1"]) if query else ["1"]
    if values not in (["0"], ["1"]):
        raise BadQuery(f"unknown = {', '.join(values)[:20]!r} in the query must be 0 or 1")
    return values == ["1"]


def _refused(problem: Exception) -> Answer:
    """Return the answer to a request that raised one of the exceptions in `REFUSALS`."""
    status, headers = refusal_of(problem).status, []
    if status == 503:
        headers.append((b"retry-after", b"%d" % random.randint(1, 3)))  # not all at the same time
    if status == 415:
        headers.append((b"accept-encoding", ACCEPTED.encode()))
    if isinstance(problem, Unread):
        headers.append((b"connection", b"close"))
    named = {"field": problem.field} if isinstance(problem, FieldError) else {}
    return error(status, str(problem), tuple(headers), **named)


async def _nobody() -> None:
    """Do nothing: there are no other workers."""


class App:
    """Loads a model and answers requests to it.

    It is alive at once and ready when the model is loaded and has warmed up. A request runs in one thread beside the
    loop, which answers health and metrics meanwhile; the request ends with the model version that it began with.

    Args:
        load: reads the bundle.
        limits: limits of a request.
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
        """Return the answer to a request that is refused before its body; None: read the body.

        Args:
            method: method of the request.
            url: URL of the request.
            headers: headers of the request.
            began: time at which its first byte came.
        """
        path = url.partition(b"?")[0].decode("latin-1")
        scores = method == b"POST" and path in ENDPOINTS and "POST" in ENDPOINTS[path].methods
        if not scores or not self._reloader.current:
            return None
        try:
            self.queue.require_place()
            self.queue.require_time(deadline_of(dict(headers), began))
            return None
        except BadDeadline:
            return None
        except (Full, Late) as problem:
            answer = _refused(problem)
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
        if path not in ENDPOINTS:
            self.metrics.answered(NO_PATH, 404)
            return error(404, f"path {path} is unknown; there are {', '.join(ENDPOINTS)}")
        methods = ENDPOINTS[path].methods
        if scope["method"] not in methods:
            result = error(405, f"{path} takes {' and '.join(methods)}", ((b"allow", ", ".join(methods).encode()),))
        else:
            try:
                result = await ENDPOINTS[path].answer(self, scope, receive)
            except Gone:
                raise
            except tuple(REFUSALS) as problem:
                scope["refused"] = isinstance(problem, Full)
                result = _refused(problem)
            except Exception:
                request_id = CURRENT.get()
                logging.exception(f"{scope['method']} {path}, request {request_id}")
                result = error(
                    500, "server error; the log has the traceback under this request_id", request_id=request_id
                )
        self.metrics.answered(path, result.status)
        return result

    def _served(self) -> ModelService:
        """Return the model that answers now; raises Loading where there is none yet."""
        if self._reloader.current is None:
            raise Loading("the model is loading")
        return self._reloader.current

    async def _score(
        self, scope: Scope, receive: Receive, answer: Callable[[ModelService, bytes, bool], bytes | Steps]
    ) -> Answer:
        served, headers = self._served(), dict(scope["headers"])
        unknown = _says_unknown(scope.get("query_string", b""))
        deadline = deadline_of(headers, scope["began"])
        packed = is_packed(scope["headers"])
        with self._body() as body:
            await self._read(body, headers, receive)
            with self.queue.place():
                call = partial(self._in_turn, time.perf_counter(), answer, served, bytes(body), packed, unknown)
                return Answer(200, await self.queue.run(call, receive, deadline))

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

    async def _read(self, body: bytearray, headers: Mapping[bytes, bytes], receive: Receive) -> None:
        """Read a body.

        Raises:
            Unread: it is too large.
            Full: too many bodies are in memory.
            Gone: the client has disconnected.
        """
        too_large = Unread(f"the body is larger than {self._max_body} bytes")
        if int(headers.get(b"content-length", 0)) > self._max_body:
            raise too_large
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            body += part
            self._held += len(part)
            if len(body) > self._max_body:
                raise too_large
            if self._held > _MOST_HELD * self._max_body:
                raise Full("too many requests come at a time")
            if not message.get("more_body"):
                return

    async def _website(self, *_: object) -> Answer:
        policy = (b"content-security-policy", self._page.policy.encode())
        return Answer(200, self._page.html, _HTML, (policy,))

    async def _describe(self, *_: object, tell: Callable[[ModelService], bytes]) -> Answer:
        return Answer(200, tell(self._served()))

    async def _live(self, *_: object) -> Answer:
        return Answer(200, b'{"live":true}')

    async def _ready(self, *_: object) -> Answer:
        self._served()
        return Answer(200, b'{"ready":true}')

    async def _text_of_metrics(self, *_: object) -> Answer:
        return Answer(200, self.metrics.text(), CONTENT_TYPE)


def _scores(answer: Callable[[ModelService, bytes, bool], bytes | Steps], **described: str) -> Endpoint:
    """Return an endpoint that takes a request to the model."""
    return Endpoint(methods=("POST",), answer=partial(App._score, answer=answer), raises=tuple(REFUSALS), **described)


def _describes(tell: Callable[[ModelService], bytes], **described: str) -> Endpoint:
    """Return an endpoint that says something of the model."""
    return Endpoint(methods=("GET",), answer=partial(App._describe, tell=tell), raises=(Loading,), **described)


ENDPOINTS = {
    "/v1/score": _scores(
        lambda served, *given: served.answer_one(*given),
        name="score",
        summary="Scores the candidates of one user.",
        takes="Request",
        answers="Scores",
    ),
    "/v1/score:batch": _scores(
        lambda served, *given: served.answer_batch(*given),
        name="score_batch",
        summary="Scores the candidates of several users.",
        takes="Batch",
        answers="BatchScores",
    ),
    "/v1/explain": _scores(
        lambda served, *given: served.answer_explained(*given),
        name="explain",
        summary="Scores candidates and says where each score comes from.",
        takes="RequestToExplain",
        answers="Explanation",
    ),
    "/v1/model": _describes(
        lambda served: served.describe(),
        name="model",
        summary="Describes the model, with an example request.",
        answers="Model",
    ),
    "/v1/examples": _describes(
        lambda served: served.examples(), name="examples", summary="Lists users of the test set.", answers="Examples"
    ),
    "/openapi.json": _describes(
        lambda served: orjson.dumps(openapi_document(ENDPOINTS, served)),
        name="openapi",
        summary="Returns this document.",
        answers="Document",
    ),
    "/v2/health/live": Endpoint(
        methods=("GET", "HEAD"),
        answer=App._live,
        name="live",
        summary="Answers 200 while the server runs.",
        answers="Live",
    ),
    "/v2/health/ready": Endpoint(
        methods=("GET", "HEAD"),
        answer=App._ready,
        name="ready",
        summary="Answers 200 when the model has loaded and warmed up.",
        answers="Ready",
        raises=(Loading,),
    ),
    "/metrics": Endpoint(
        methods=("GET",),
        answer=App._text_of_metrics,
        name="metrics",
        summary="Returns metrics for Prometheus.",
        answers=CONTENT_TYPE,
    ),
    "/": Endpoint(
        methods=("GET", "HEAD"),
        answer=App._website,
        name="page",
        summary="Returns a page for a browser.",
        answers=_HTML,
    ),
}
"""Path -> what is answered there. The OpenAPI document is written from it, too."""


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
