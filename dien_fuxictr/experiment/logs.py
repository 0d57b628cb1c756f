"""The zoo's log: `<model_root>/<dataset_id>/<expid>.log`, and what of it stderr shows.

A run that ends in bad input must not change the log of an earlier run, so records wait in memory until the run has
started. stderr shows warnings, and records with a text for it: `logging.info(..., extra={"screen": text})`. With
`--verbose` it shows all records as the file has them. `build_dataset.py` shows those with `extra={"note": True}` below
its table: counts of dropped rows and the like.
"""

import logging
import logging.handlers
import sys
from pathlib import Path

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.progress import above_bars

FORMAT = "%(asctime)s P%(process)d %(levelname)s %(message)s"


class _LogFile(logging.FileHandler):
    """Log file whose failed write, on a full disk for example, ends the run.

    The default is a traceback per line.
    """

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise UserError(f"cannot write {self.baseFilename}: {error.strerror}") from error
        raise


class _Screen(logging.StreamHandler):
    """Handler that writes on stderr, above the bars."""

    def emit(self, record: logging.LogRecord) -> None:
        with above_bars():
            super().emit(record)


class _ScreenText(logging.Formatter):
    """Format warnings, and records with a text for the screen, without time and process."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)  # the message, and the traceback where it has one
        return f"{record.levelname.lower()}: {text}" if record.levelno >= logging.WARNING else vars(record)["screen"]

    @staticmethod
    def is_shown(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or hasattr(record, "screen")


class _Notes(logging.Handler):
    """Collector of the messages that are notes."""

    def __init__(self, notes: dict[str, None]) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "note"):
            self._notes[record.getMessage()] = None


class RunLog:
    """Log on stderr and, after `open_file`, a log file with all records since `start`.

    Attributes:
        path: the file, once it is known.
        notes: messages of records that are notes, each once.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.notes: dict[str, None] = {}
        self._buffer = logging.handlers.MemoryHandler(capacity=sys.maxsize, flushLevel=logging.CRITICAL + 1)
        self._handlers: list[logging.Handler] = []

    def start(self, verbose: bool = False) -> None:
        """Replace the handlers of the root logger, as the zoo's `set_logger` does.

        Args:
            verbose: show all records.
        """
        screen = _Screen()
        if not verbose:
            screen.setFormatter(_ScreenText())
            screen.addFilter(_ScreenText.is_shown)
        self._handlers = [screen, self._buffer, _Notes(self.notes)]
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

    @property
    def file(self) -> Path | None:
        """File, if it has been opened."""
        return self.path if self._buffer.target is not None else None

    def append_if_possible(self) -> None:
        """Open the file for appending; on failure warn and continue without it."""
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
