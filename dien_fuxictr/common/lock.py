"""A file that one process at a time holds, and that says which one does."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError


@contextmanager
def held(file: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock until the block ends; a process that is killed releases it.

    Args:
        file: the lock; FILE.owner next to it tells the owner.
        what: name of what is locked, for the message to a second process.
        wait: a second process waits, with a log line; otherwise it is refused.

    Raises:
        UserError: another process holds the lock, or the folder cannot be written.
    """
    owner = file.with_name(f"{file.name}.owner")
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            in_use = f"{what} is in use by {_read(owner)} ({file})"
            if not wait:
                raise UserError(f"{in_use}; wait until that process has ended, or end it") from error
            logging.info(f"Waiting: {in_use}", extra={"screen": f"  waiting: {in_use}"})
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot lock {what} with {file}: {error.strerror}") from error
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _read(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8")
    except FileNotFoundError:  # the owner is just starting or ending
        return "another process"
