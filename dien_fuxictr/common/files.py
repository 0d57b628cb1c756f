"""Files and folders that are written completely or not at all, and their digests."""

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import UserError


def digest(path: Path, size: int = 16) -> str:
    """Return the BLAKE2b digest of a file's content, `size` bytes in hexadecimal."""
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


@contextmanager
def folder_beside(path: Path, is_locked: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill, which `replace_folder` then moves to a path.

    It has the path's name, and is in a hidden folder next to the path, which is removed when the block ends.

    Args:
        path: its parent folder is created.
        is_locked: no other process writes to the path, so that leftovers of killed processes are removed.

    Raises:
        OSError: the folder cannot be created. An error in the block about the hidden folder names the path instead.
    """
    prefix, hidden = f".{path.name}.building-", None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.iterdir() if is_locked else ():
            if stale.name.startswith(prefix):
                shutil.rmtree(stale, ignore_errors=True)
        hidden = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        new = hidden / path.name
        new.mkdir()
        yield new
    except OSError as error:
        if prefix in str(error.filename):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if hidden:  # on NFS an open file stays in its folder until it is closed
            shutil.rmtree(hidden, ignore_errors=True)


def replace_folder(new: Path, path: Path) -> None:
    """Move a folder of `folder_beside` to its path, and replace an existing folder.

    The existing folder is restored if the move fails.

    Raises:
        OSError: the system refuses.
    """
    old = new.with_name(f"{new.name}.old")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise


def _reason(error: BaseException) -> str | None:
    """Return why the system refused to write; None for any other error."""
    # it raises an OSError without a number, or an error of its own
    if of_polars := re.search(r"\(os error (\d+)\)", str(error)):
        return os.strerror(int(of_polars[1]))
    # torch.save reports a failed write as a RuntimeError with the OSError as its context.
    cause = error if isinstance(error, OSError) else error.__context__
    if isinstance(error, (OSError, RuntimeError)) and isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return None


def require_writable(path: Path, append: bool = False) -> None:
    """Check that a file can be written, before the work for it; change nothing.

    Args:
        path: the file; its folder need not exist.
        append: whether it will be appended to; else `write_atomic` will write it.

    Raises:
        UserError: it cannot be written, or its name belongs to something that is not a file.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise UserError(f"cannot write {path}: it is a link to {os.readlink(path)}, which does not exist")
        if path.exists() and not path.is_file():
            raise UserError(f"cannot write {path}: it already exists and is not a file")
        if append and path.exists():
            open(path, "ab").close()
            return
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    require_room(path)


def require_room(path: Path) -> None:
    """Check that a file or folder can be created or replaced; change nothing.

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
    if os.name == "posix":  # other systems cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
