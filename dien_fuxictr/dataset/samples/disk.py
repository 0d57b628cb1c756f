"""Arrays in files, whose pages come and go: memory does not grow with them."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike


class Disk:
    """A folder of arrays of one dimension, `<name>.bin` each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = itertools.count()

    def path(self, name: str) -> Path:
        """The file of an array."""
        return self.folder / f"{name}.bin"

    def append(self, name: str, values: np.ndarray) -> None:
        """Write further values behind those that are there."""
        with open(self.path(name), "ab") as file:
            file.write(np.ascontiguousarray(values).data)

    def open(self, name: str, dtype: DTypeLike, mode: Literal["r", "r+"] = "r") -> np.ndarray:
        """An array that is there; empty where nothing was written."""
        path = self.path(name)
        if not path.is_file() or not path.stat().st_size:
            return np.zeros(0, dtype)
        return np.asarray(np.memmap(path, dtype, mode))

    def new(self, name: str, dtype: DTypeLike, size: int) -> np.ndarray:
        """An array of zeros; raises OSError where the disk is too full for it."""
        if not size:
            return np.zeros(0, dtype)
        with open(self.path(name), "wb") as file:  # a page that cannot be written later would end the process
            os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
        return self.open(name, dtype, "r+")

    def scratch(self, size: int) -> np.ndarray:
        """An int64 array whose file has no name any more."""
        name = f"scratch{next(self._numbers)}"
        array = self.new(name, np.int64, size)
        self.path(name).unlink(missing_ok=True)
        return array


def chunks(size: int, many: int) -> Iterator[slice]:
    """Slices of at most `many` that cover `size`."""
    return (slice(first, min(first + many, size)) for first in range(0, size, many))
