"""Read the files of a built data set; a damaged file raises UserError."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from dien_fuxictr.common.errors import UserError

UNREADABLE = (OSError, ValueError, EOFError, TypeError, BadZipFile, zlib.error)
"""Errors that NumPy raises for a damaged file."""
T = TypeVar("T")


def damaged(path: Path, reason: object) -> UserError:
    """Return the error for a file that differs from what a build writes."""
    return UserError(f"{path} is damaged ({reason}); --rebuild builds the data set again")


def read_json(path: Path, read: Callable[[Any], T]) -> T:
    """Return the result of `read` on the parsed content of a JSON file.

    Raises:
        UserError: the file is not JSON, or `read` misses a key or finds a wrong type.
        FileNotFoundError: there is no such file.
    """
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except KeyError as error:
        raise damaged(path, f"{error} is missing") from error
    except (UserError, FileNotFoundError):
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file.

    Raises:
        UserError: the file is damaged.
        FileNotFoundError: there is no such file.
    """
    try:
        with np.load(path) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise damaged(path, error or type(error).__name__) from error


def read_array(path: Path, mapped: bool = False) -> np.ndarray:
    """Return the array of an .npy file; raises as `read_arrays`."""
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise damaged(path, error or type(error).__name__) from error


def require_integers(where: str, values: np.ndarray, rows: int | None = None) -> None:
    """Raise UserError unless an array has integers of shape (rows,).

    Args:
        where: place of the array, which begins the message.
        values: the array.
        rows: required number of rows; None: any.
    """
    if values.ndim != 1:
        raise UserError(f"{where} has the shape {values.shape}; it must have one axis")
    if not np.issubdtype(values.dtype, np.integer):
        raise UserError(f"{where} is of the type {values.dtype}; the values must be integers")
    if rows is not None and len(values) != rows:
        raise UserError(f"{where} has {len(values)} rows; it must have {rows}, as the other columns")


def require_range(where: str, values: np.ndarray, lowest: int, highest: int, allowed: str, what: str = "") -> None:
    """Raise UserError unless lowest <= values <= highest.

    The message names the first wrong extreme.

    Args:
        where: place of the values, which begins the message.
        values: the values.
        lowest: smallest allowed value.
        highest: largest allowed value.
        allowed: last part of the message.
        what: name of a value.
    """
    if values.size:
        least, most = values.min(), values.max()
        if not (least >= lowest and most <= highest):
            raise UserError(f"{where} holds {what}{(most if least >= lowest else least).item()}; {allowed}")
