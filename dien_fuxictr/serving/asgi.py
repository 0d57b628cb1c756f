"""The parts of the ASGI protocol that the server speaks: its types, and an answer as messages."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import orjson

from .request_id import HEADER

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = "application/json"


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return its headers, those of its body first."""
        body = (b"content-type", self.content_type.encode()), (b"content-length", b"%d" % len(self.body))
        return [*body, *self.headers]


def error(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **more: str) -> Answer:
    """An answer that says what is wrong."""
    return Answer(status, orjson.dumps({"error": message, **more}), _JSON, headers)


async def send_answer(answer: Answer, request_id: bytes, send: Send, with_body: bool) -> None:
    """Send it; without the body, to HEAD, it has the length that it would have."""
    headers = [*answer.fields(), (HEADER, request_id)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
