"""Pretrained vectors, read some at a time."""

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import polars as pl
import torch
from torch import Tensor

from dien_fuxictr.common.errors import UserError

_ROWS = 4096


@dataclass
class PretrainedRows:
    """Vectors of words in a file .npz, .h5 or .parquet with `key` and `value`.

    Args:
        path: the file.
        dim: size of a vector.
        vocabulary: word -> id.
    """

    path: str
    dim: int
    vocabulary: dict[str, int]

    def rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield distinct ids (N,) and vectors (N, D), float32, in parts.

        Words without an id are left out.

        Raises:
            UserError: vectors have another size, or an array is not stored row by row.
        """
        for words, vectors in _chunks(Path(self.path)):
            if vectors.shape[1:] != (self.dim,):
                raise UserError(
                    f"pretrain_dim = {self.dim} does not match {self.path}, whose vectors have the shape "
                    f"{vectors.shape[1:]}"
                )
            ids = {self.vocabulary[word]: i for i, word in enumerate(words.astype(str)) if word in self.vocabulary}
            yield torch.tensor([*ids], dtype=torch.int64), torch.from_numpy(vectors[[*ids.values()]]).float()


def _chunks(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            key, value = (cast(h5py.Dataset, file[name]) for name in ("key", "value"))
            for start in range(0, len(key), _ROWS):
                yield key[start : start + _ROWS], value[start : start + _ROWS]
    elif path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive, archive.open("key.npy") as key, archive.open("value.npy") as value:
            yield from zip(_of_array(key, path), _of_array(value, path), strict=True)
    else:
        frame = pl.scan_parquet(path).select("key", "value")
        for start in range(0, frame.select(pl.len()).collect().item(), _ROWS):
            part = frame.slice(start, _ROWS).collect()
            yield part["key"].to_numpy(), part["value"].to_numpy()


def _of_array(file: Any, path: Path) -> Iterator[np.ndarray]:
    """Yield the rows of an array in NumPy's format."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(file)
    if (by_column and len(shape) > 1) or dtype.hasobject:
        raise UserError(
            f"{path} cannot be combined with embedding_sharding = rows; its arrays must have numbers or text, stored "
            "row by row"
        )
    of_row = shape[1:]
    for start in range(0, math.prod(shape[:1]), _ROWS):
        part = min(_ROWS, math.prod(shape[:1]) - start), *of_row
        yield np.frombuffer(file.read(dtype.itemsize * math.prod(part)), dtype).reshape(part)
