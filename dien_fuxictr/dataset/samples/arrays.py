"""Arrays by name, in memory or in files.

Pages of mapped files are loaded on demand, so that their size does not count as memory.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike


class Arrays:
    """Arrays of one dimension, held in memory."""

    on_disk = False

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def append(self, name: str, values: np.ndarray) -> None:
        """Append values to an array."""
        self._parts.setdefault(name, []).append(np.array(values))

    def has(self, name: str) -> bool:
        """Return whether an array exists."""
        return name in self._parts

    def open(self, name: str, dtype: DTypeLike, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """Return an existing array; an empty one if nothing was written."""
        parts = self._parts.get(name, [])
        if len(parts) > 1:
            self._parts[name] = parts = [np.concatenate(parts)]
        return parts[0] if parts else np.zeros(0, dtype)

    def new(self, name: str, dtype: DTypeLike, size: int) -> np.ndarray:
        """Return a new array of zeros; raise OSError if the disk is too full for it."""
        self._parts[name] = [np.zeros(size, dtype)]
        return self._parts[name][0]

    def remove(self, *names: str) -> None:
        """Delete arrays, if they exist."""
        for name in names:
            self._parts.pop(name, None)

    def rename(self, name: str, new: str) -> None:
        """Rename an array, if it exists."""
        if name in self._parts:
            self._parts[new] = self._parts.pop(name)

    def scratch(self, size: int) -> np.ndarray:
        """Return an int64 array without a name and with arbitrary values."""
        return np.empty(size, np.int64)


class Disk(Arrays):
    """A folder of arrays of one dimension, `<name>.bin` each."""

    on_disk = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()

    def path(self, name: str) -> Path:
        """Return the file of an array."""
        return self.folder / f"{name}.bin"

    def append(self, name: str, values: np.ndarray) -> None:
        """Append values to the file of an array."""
        with open(self.path(name), "ab") as file:
            file.write(np.ascontiguousarray(values).data)

    def has(self, name: str) -> bool:
        """Return whether the file of an array exists."""
        return self.path(name).is_file()

    def open(self, name: str, dtype: DTypeLike, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """Return an existing array, mapped from its file; empty if nothing was written."""
        path = self.path(name)
        if not path.is_file() or not path.stat().st_size:
            return np.zeros(0, dtype)
        return np.asarray(np.memmap(path, dtype, mode))

    def new(self, name: str, dtype: DTypeLike, size: int) -> np.ndarray:
        """Create a file of zeros, and return it as a mapped array."""
        if not size:
            return np.zeros(0, dtype)
        # allocated at once: a page that cannot be written later would kill the process
        with open(self.path(name), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
        return self.open(name, dtype, "r+")

    def remove(self, *names: str) -> None:
        """Delete the files of arrays, if they exist."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def rename(self, name: str, new: str) -> None:
        """Rename the file of an array, if it exists."""
        if self.has(name):
            self.path(name).rename(self.path(new))

    def scratch(self, size: int) -> np.ndarray:
        """Return a mapped int64 array whose file is deleted already."""
        name = f"scratch{next(self._numbers)}_history"
        array = self.new(name, np.int64, size)
        self.remove(name)
        return array


def chunks(size: int, many: int) -> Iterator[slice]:
    """Yield slices of at most `many` elements that cover `size`."""
    return (slice(first, min(first + many, size)) for first in range(0, size, many))
