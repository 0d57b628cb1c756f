"""Locks that tell which bundles are being served.

A server holds a shared lock on the manifest of its bundle, and writers look for a lock. Every bundle has a manifest, so
that no file is added to a bundle or its folder. A server may hold a bundle that it cannot write to.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .manifest import MANIFEST


class Hold:
    """Shared lock on a bundle's folder, which ends with the process in any case.

    Args:
        folder: the bundle, or a symlink to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def renew(self) -> None:
        """Lock the current bundle instead of the earlier one; lock nothing without one."""
        earlier, self._file = self._file, None
        try:
            self._file = open(self._folder / MANIFEST, "rb")  # noqa: SIM115 - it is open as long as it is held
            fcntl.flock(self._file, fcntl.LOCK_SH)  # a writer only holds the lock for a moment
            os.set_inheritable(self._file.fileno(), True)  # the supervisor replaces this process by exec
        except FileNotFoundError:
            pass  # the reader of the bundle reports it
        except OSError as error:
            logging.warning(f"bundle {self._folder} is served without a lock, so any command may replace it: {error}")
        if earlier:
            earlier.close()


@contextmanager
def unless_held(folder: Path) -> Iterator[bool]:
    """Prevent servers from opening a bundle within the context.

    Yields:
        False if a server has it already.

    Raises:
        OSError: the file system has no locks, or the bundle is not writable.
    """
    try:
        file = open(folder / MANIFEST, "r+b")  # noqa: SIM115 - r+ without writing: NFS needs it for an exclusive lock
    except FileNotFoundError:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
