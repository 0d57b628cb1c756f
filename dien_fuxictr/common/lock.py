"""A file that one process at a time holds, and that says which one does."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import UserError


@contextmanager
def held(file: Path, what: str) -> Iterator[None]:
    """Hold a lock until the block ends, however it ends; a process that is killed lets go of it.

    Args:
        file: the lock; beside it is FILE.owner, who holds it.
        what: is held, for the message to the second one.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    owner = file.with_name(f"{file.name}.owner")
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        holder = owner.read_text(encoding="utf-8") if owner.is_file() else "another process"
        raise UserError(f"{what} is in use by {holder} ({file}): wait until it has ended, or end it") from error
    except OSError as error:
        raise UserError(f"cannot lock {what} with {file}: {error.strerror}") from error
    try:
        owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()
