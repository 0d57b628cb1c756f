"""Server's log: lines of text or JSON objects, each with its request's id."""

import json
import logging
import os
import re
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime, timezone

from dien_fuxictr.common.errors import fail
from dien_fuxictr.common.progress import has_terminal

TEXT, JSON = FORMATS = ("text", "json")
HEADER = b"x-request-id"
CURRENT: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that is being answered; empty outside of requests."""
_ID = re.compile(rb"[ -~]{1,128}")


def id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the id of a request.

    Args:
        headers: headers of the request, names in lower case.

    Returns:
        What the client has sent, where it is printable ASCII of up to 128 characters; else a new one.
    """
    for name, value in headers:
        if name == HEADER and _ID.fullmatch(value):
            break
    else:
        value = os.urandom(16).hex().encode()
    return value


class JsonLines(logging.Formatter):
    """A record as a JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record with the id of its request and its traceback, if any."""
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "process": record.process,
        }
        if request_id := CURRENT.get():
            line["request_id"] = request_id
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure(form: str) -> None:
    """Give all loggers of this process the form of `FORMATS`; text is Python's own."""
    if form == TEXT:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_end_of_thread


def say(message: str) -> None:
    """Print a message that is not a warning to stdout, in the form of the log."""
    if _is_json():
        news = {"name": "root", "levelname": "INFO", "msg": message}
        message = JsonLines().format(logging.makeLogRecord(news))
    print(message, flush=True)


def tell(message: str, code: int) -> int:
    """Log what ends a process, in the form of the log; returns `code`, as `fail`."""
    if not _is_json():
        return fail(message, code)
    logging.critical(" ".join(message.split()))
    return code


def shows_progress() -> bool:
    """Return whether stderr shows progress bars: a terminal, and a log in text."""
    return has_terminal() and not _is_json()


def _is_json() -> bool:
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    exc_info = args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    logging.critical(f"thread {args.thread.name if args.thread else ''} has ended with an error", exc_info=exc_info)
