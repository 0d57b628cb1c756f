"""The id of a request: taken from its client or made here, returned with each answer, and in each line of the log."""

import os
import re
from collections.abc import Iterable
from contextvars import ContextVar

HEADER = b"x-request-id"
CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that is being answered here; empty outside of requests."""
_ID = re.compile(rb"[ -~]{1,128}")


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id of a request.

    Args:
        headers: of the request, names in lower case.

    Returns:
        What the client has sent, where it is printable ASCII of up to 128 characters; else a new one.
    """
    for name, value in headers:
        if name == HEADER and _ID.fullmatch(value):
            break
    else:
        value = os.urandom(16).hex().encode()
    return value
