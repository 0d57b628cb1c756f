"""An ASGI application called in this process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import orjson

from dien_fuxictr.serving.app import App
from dien_fuxictr.serving.request import Limits


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Unanswered(Exception):
    """Nothing was sent back."""


async def call(
    app: App,
    method: str,
    path: str,
    parts: Sequence[bytes] = (b"",),
    headers: dict[str, str] | None = None,
    before_last: Callable[[], Awaitable[object]] | None = None,
    away: asyncio.Event | None = None,
) -> Reply:
    """Send one request, with its body in parts.

    `before_last` is awaited before the last part, and the client disconnects at `away`. Raise `Unanswered` if there is
    no answer.
    """
    queue = list(parts)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not queue:
            await (away or asyncio.Event()).wait()
            return {"type": "http.disconnect"}
        if len(queue) == 1 and before_last:
            await before_last()
        part = queue.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(queue)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode(), "headers": pairs}
    await app(scope, receive, send)
    if not sent:
        raise Unanswered
    start, body = sent
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    return Reply(start["status"], fields, body["body"])


class Client:
    """Started application, on its own event loop."""

    def __init__(self, app: App) -> None:
        self.app, self.loop = app, asyncio.new_event_loop()
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._done: asyncio.Queue[str] = asyncio.Queue()

        async def send(message: dict[str, Any]) -> None:
            self._done.put_nowait(message["type"])

        self._lifespan = self.loop.create_task(self._run(send))
        self._pass("startup")

    async def _run(self, send: Any) -> None:
        await self.app({"type": "lifespan"}, self._messages.get, send)

    def _pass(self, kind: str) -> None:
        self._messages.put_nowait({"type": f"lifespan.{kind}"})
        assert self.run(self._done.get()) == f"lifespan.{kind}.complete"

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def loaded(self) -> "Client":
        assert self.app._loading
        self.run(self.app._loading)
        return self

    def get(self, path: str) -> Reply:
        return self.run(call(self.app, "GET", path))

    def post(self, path: str, content: Any, **options: Any) -> Reply:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        return self.run(call(self.app, "POST", path, [body], **options))

    def close(self) -> None:
        self._pass("shutdown")
        self.run(self._lifespan)
        self.loop.close()


def started(load: Callable[[], Any], **options: Any) -> Client:
    """Return the client of a server that loads the result of `load`."""
    return Client(App(load, **{"limits": Limits(), "max_body": 1 << 20, "max_in_flight": 2, **options}))
