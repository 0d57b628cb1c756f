"""The server's log: lines of text, or one JSON object a line."""

import json
import logging
import sys
import threading
from datetime import datetime, timezone

from dien_fuxictr.common.errors import fail

from .request_id import CURRENT

TEXT, JSON = FORMATS = ("text", "json")


class JsonLines(logging.Formatter):
    """A record as a JSON object in one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return it with the id of the request that is being answered, and the traceback, where there are any."""
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
    """Print what is no warning to stdout, in the form of the log."""
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
    """Return whether stderr may have progress bars: it is a terminal, and the log is text."""
    return sys.stderr.isatty() and not _is_json()


def _is_json() -> bool:
    return any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    exc_info = args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    logging.critical(f"thread {args.thread.name if args.thread else ''} has ended with an error", exc_info=exc_info)
