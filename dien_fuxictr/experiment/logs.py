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
    """Console log and, from `open_file` on, the log file with everything since `start`.

    Attributes:
        path: the file, once it is known.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self._buffer = logging.handlers.MemoryHandler(capacity=sys.maxsize, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = []

    def start(self) -> None:
        """Replace the handlers of the root logger, as the zoo's `set_logger` does."""
        self._handlers = [logging.StreamHandler(), self._buffer]
        logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=self._handlers, force=True)

    def open_file(self, append: bool) -> None:
        """Write the records so far and all to come to `path`; a second call does nothing.

        Raises:
            UserError: the file cannot be written.
        """
        if self._buffer.target is not None:
            return
        assert self.path
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = _LogFile(self.path, mode="a" if append else "w", encoding="utf-8")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        file.setFormatter(logging.Formatter(FORMAT))
        self._buffer.setTarget(file)
        self._buffer.flush()
        root = logging.getLogger()
        root.removeHandler(self._buffer)
        root.addHandler(file)
        self._handlers.append(file)

    def append_if_possible(self) -> None:
        """`open_file` for a command that has another output: it goes on without, with a caution."""
        try:
            self.open_file(append=True)
        except UserError as error:
            logging.warning(f"no log is kept: {error}")

    def close(self) -> None:
        """Detach and close the handlers of this run."""
        self._buffer.setTarget(None)
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
            handler.close()
