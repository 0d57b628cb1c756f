"""Files that are, at every moment, the old one or the whole new one, and digests that tell them apart."""

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from .errors import UserError


def digest(path: Path, size: int = 16) -> str:
    """Of a file's content, BLAKE2b in so many bytes."""
    content = hashlib.blake2b(digest_size=size)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file that, at every moment, is the old one or the whole new one.

    Args:
        path: the file; its folder is made.
        write: writes the content to an open binary file.

    Raises:
        UserError: the disk is full or the folder not writable; the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if reason := _reason(error):
            raise UserError(f"cannot write {path}: {reason}") from error
        raise


def _reason(error: BaseException) -> str | None:
    """Why the system refused to write; None where something else is wrong."""
    if of_polars := re.search(r"\(os error (\d+)\)", str(error)):  # which gives an OSError without a number, or its own
        return os.strerror(int(of_polars[1]))
    # torch.save reports a failed write as a RuntimeError with the OSError as its context.
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(error, (OSError, RuntimeError)) and isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return None


def require_writable(path: Path, append: bool = False) -> None:
    """Check that a file can be written, before the work that it is for; nothing is changed or left there.

    Args:
        path: the file; its folder need not exist.
        append: it will be added to; else `write_atomic` will write it.

    Raises:
        UserError: it cannot, or something that is no file has its name.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise UserError(f"cannot write {path}: it is a link to {os.readlink(path)}, which does not exist")
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it exists and is no file")
        if append and path.exists():
            open(path, "ab").close()
            return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    require_room(path)


def require_room(path: Path) -> None:
    """Check that a file or folder can be put at a path, or replaced there; nothing is changed or left there.

    Args:
        path: its folder need not exist.

    Raises:
        UserError: it cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
