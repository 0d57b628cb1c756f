"""The zoo's log: the console at once, `<model_root>/<dataset_id>/<expid>.log` only when the run really starts.

A run that ends in bad input must leave the log of the earlier run alone, so records wait in memory until then.
"""

import logging
import logging.handlers
import sys
from pathlib import Path

from dien_fuxictr.common.errors import UserError

FORMAT = "%(asctime)s P%(process)d %(levelname)s %(message)s"


class _LogFile(logging.FileHandler):
    """A log file whose failed write (a full disk) ends the run instead of printing a traceback a line."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise UserError(f"cannot write {self.baseFilename}: {error.strerror}") from error
        raise


class RunLog:
    """Console log and, from `open_file` on, the log file with everything since the start.

    Replaces the handlers of the root logger, as the zoo's `set_logger` does.
    """

    def __init__(self) -> None:
        console = logging.StreamHandler()
        self._buffer = logging.handlers.MemoryHandler(capacity=sys.maxsize, flushLevel=logging.CRITICAL + 1)
        self._file: logging.FileHandler | None = None
        logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=[console, self._buffer], force=True)
        self._handlers: list[logging.Handler] = [console, self._buffer]

    def open_file(self, path: Path, append: bool) -> None:
        """Write the records so far and all to come to `path`; a second call does nothing.

        Raises:
            UserError: the file cannot be written.
        """
        if self._file is not None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = _LogFile(path, mode="a" if append else "w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}") from error
        self._file.setFormatter(logging.Formatter(FORMAT))
        self._buffer.setTarget(self._file)
        self._buffer.flush()
        root = logging.getLogger()
        root.removeHandler(self._buffer)
        root.addHandler(self._file)
        self._handlers.append(self._file)

    def close(self) -> None:
        """Detach and close the handlers of this run."""
        self._buffer.setTarget(None)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
