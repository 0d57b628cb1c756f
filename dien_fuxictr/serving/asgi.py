"""HTTP over ASGI: types, answers as messages, and bodies compressed by gzip."""

import zlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import orjson

from .log import HEADER

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_JSON = "application/json"
ACCEPTED = "gzip, identity"
_GZIP = (b"gzip", b"x-gzip")
_IDENTITY = (b"identity", b"")
_STEP = 1 << 14
"""Bytes read at a time. What follows a member is copied: from the whole body, that takes the square of its length."""


class Answer(NamedTuple):
    """Answer to a request."""

    status: int
    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return its headers, those of its body first."""
        body = (b"content-type", self.content_type.encode()), (b"content-length", b"%d" % len(self.body))
        return [*body, *self.headers]


def error(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **more: str) -> Answer:
    """Return an answer that describes an error."""
    return Answer(status, orjson.dumps({"error": message, **more}), _JSON, headers)


async def send_answer(answer: Answer, request_id: bytes, send: Send, with_body: bool) -> None:
    """Send it; without the body, to HEAD, it has the length that it would have."""
    headers = [*answer.fields(), (HEADER, request_id)]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})


class UnknownCoding(ValueError):
    """A `Content-Encoding` that is not read."""


class BadGzip(ValueError):
    """A body that is not gzip, or not all of it."""


class TooLarge(Exception):
    """Error of a body that is larger than allowed, as sent or when unpacked."""


class Unread(TooLarge):
    """Error of a body that is larger than allowed and whose rest is not read."""


def is_packed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether `Content-Encoding` says gzip.

    Args:
        headers: headers of a request, names in lower case.

    Raises:
        UnknownCoding: it says something else, or gzip more than once.
    """
    codings = [value for name, value in headers if name == b"content-encoding"]
    if not codings:
        return False
    given = b",".join(codings)
    named = [coding for each in given.split(b",") if (coding := each.strip().lower()) not in _IDENTITY]
    if len(named) > 1 or any(coding not in _GZIP for coding in named):
        shown = given[:40].decode("latin-1")
        raise UnknownCoding(f"header content-encoding must be {ACCEPTED.replace(', ', ' or ')}, is {shown!r}")
    return bool(named)


def unpacked(body: bytes, most: int) -> bytes:
    """Unpack gzip of one member or several.

    Args:
        body: as it was sent.
        most: bytes of what is returned; twice as many are in memory at most.

    Raises:
        BadGzip: it is damaged, has no end, or has data after its end.
        TooLarge: there are more than `most`.
    """
    parts, left = [], most
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for start in range(0, len(body), _STEP):
        step = body[start : start + _STEP]
        while step:
            if member.eof:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                parts.append(member.decompress(step, left + 1))
            except zlib.error as error:
                raise BadGzip(f"the body is not gzip: {error}") from error
            left -= len(parts[-1])
            if left < 0:
                raise TooLarge(f"the body is larger than {most} bytes when it is unpacked")
            step = member.unused_data
    if not member.eof:
        raise BadGzip(f"the body is incomplete gzip: the end is missing after {len(body)} bytes")
    return b"".join(parts)
