"""Which bundles are being served: every server holds a shared lock on its own, and writers look for one.

The lock is of the manifest, which every bundle has: nothing is added to a bundle, nor to the folder beside it. A server
may hold a bundle that it cannot write to.
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
    """A shared lock on what is in a bundle's folder; it ends with the process, however that ends.

    Args:
        folder: the bundle, or a symlink to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def renew(self) -> None:
        """Hold what is there now instead of what was there before; what is no bundle is not held."""
        earlier, self._file = self._file, None
        try:
            self._file = open(self._folder / MANIFEST, "rb")  # noqa: SIM115 - it is open as long as it is held
            fcntl.flock(self._file, fcntl.LOCK_SH)  # a writer that holds it has done with it at once
            os.set_inheritable(self._file.fileno(), True)  # the supervisor takes the place of this process by exec
        except FileNotFoundError:
            pass  # whoever reads the bundle says so
        except OSError as error:
            logging.warning(f"bundle {self._folder} is served without a lock, any command may replace it: {error}")
        if earlier:
            earlier.close()


@contextmanager
def unless_held(folder: Path) -> Iterator[bool]:
    """Keep servers from taking a bundle while the block runs; yields False where one has it already.

    Raises:
        OSError: the file system has no locks, or the bundle is not writable.
    """
    try:
        file = open(folder / MANIFEST, "r+b")  # noqa: SIM115 - not to write: NFS needs it for an exclusive lock
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
