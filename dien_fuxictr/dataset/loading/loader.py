"""Loader of batches from arrays in memory, a replacement for the zoo's loaders."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from fuxictr.features import FeatureMap

from ..encoding.encoded import EncodedSplit, HistoryTable, load_split

BUCKET = 8
"""Batches among which `bucket_by_length` sorts: with more, padding costs no less, and accuracy suffers more."""

ROUNDS = 6
MULTIPLIERS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)
"""Constants of SplitMix64 (Steele, Lea and Flood, 2014)."""

T = TypeVar("T")


class InMemoryDataLoader:
    """Seeded loader for the zoo's `data_loader` hook.

    A batch is the zoo's dict over `feature_map.features` and labels: ids (B,) and sequences (B, T) int64, numbers and
    labels (B,) float32. T is the longest history of the batch among the columns of one table, at least 1; without
    `trim_histories` T is max_len, which models of a fixed length need. Padding is 0, on the side that the data set
    defines.

    When shuffling, each pass draws one number from torch's global generator and permutes the rows with it: restoring
    that generator's state before a pass repeats the pass.

    For a GPU, batches are in pinned memory, and a thread prepares them while the GPU computes.

    Args:
        feature_map: its features (after `use_features`) and labels form a batch.
        data_path: `encoded/<split>.npz` as `prepare_dataset` names it.
        split: train | valid | test; passed by the zoo. Rows come in file order unless `shuffle`.
        batch_size: rows per batch; the last batch may be smaller.
        shuffle: use a new order in every pass.
        trim_histories: pad to the longest history of the batch instead of max_len.
        bucket_by_length: when shuffling, gather rows of similar length: within `BUCKET` batches of permuted rows, rows
            are sorted by the number of their behaviours and cut into batches, whose order is permuted again.
        gpu: index of the model's GPU, -1 for the CPU.
        **kwargs: other keys of the experiment, which the zoo passes to every loader.
    """

    num_blocks = 1

    def __init__(self, feature_map: FeatureMap, data_path: str | Path, split: str = "train", **options) -> None:
        self._set_up(feature_map, load_split(Path(data_path)), **options)

    @classmethod
    def from_encoded(cls, feature_map: FeatureMap, encoded: EncodedSplit, **options) -> "InMemoryDataLoader":
        """Build a loader over rows that `Encoder.encode_rows` encoded.

        Columns that the encoder left out are not in the batches.
        """
        loader = cls.__new__(cls)
        loader._set_up(feature_map, encoded, **options)
        return loader

    def _set_up(
        self,
        feature_map: FeatureMap,
        encoded: EncodedSplit,
        batch_size: int = 32,
        shuffle: bool = False,
        trim_histories: bool = True,
        bucket_by_length: bool = False,
        gpu: int = -1,
        **kwargs,
    ) -> None:
        wanted = [*feature_map.features, *feature_map.labels]
        self._columns = {name: encoded.columns[name] for name in wanted if name in encoded.columns}
        self._tables = []
        for table in encoded.tables:
            widths = {name: feature_map.features[name]["max_len"] for name in table.columns if name in wanted}
            if widths:
                self._tables.append((table, widths))
        self._bucket_by_length = bucket_by_length
        self._set_batches(feature_map, len(encoded), batch_size, shuffle, trim_histories, gpu)

    def _set_batches(
        self, feature_map: FeatureMap, samples: int, batch_size: int, shuffle: bool, trim_histories: bool, gpu: int
    ) -> None:
        """Set the number of batches and their form."""
        self._trim_histories = trim_histories
        self._shuffle = shuffle
        self._pin_memory = gpu >= 0 and torch.cuda.is_available()
        self.feature_map = feature_map
        self.batch_size = batch_size
        self.num_samples = samples
        self.num_batches = -(-samples // batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        batches = map(self._batch, self._rows_of_batches())
        return prefetched(batches) if self._pin_memory else batches

    def _rows_of_batches(self) -> Iterable[np.ndarray]:
        if not self._shuffle:
            return self._cut(np.arange(self.num_samples))
        seed = int(torch.empty((), dtype=torch.int64).random_())
        generator = np.random.default_rng(seed)
        rows = generator.permutation(self.num_samples)
        if not self._bucket_by_length:
            return self._cut(rows)
        length = sum((table.length for table, _ in self._tables), np.zeros(self.num_samples, dtype=np.int64))
        for first in range(0, self.num_samples, BUCKET * self.batch_size):
            bucket = rows[first : first + BUCKET * self.batch_size]
            bucket[:] = bucket[np.argsort(length[bucket], kind="stable")]
        batches = self._cut(rows)
        return [batches[i] for i in generator.permutation(len(batches))]

    def _cut(self, rows: np.ndarray) -> list[np.ndarray]:
        return [rows[first : first + self.batch_size] for first in range(0, self.num_samples, self.batch_size)]

    def _batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        arrays = {}
        for name, values in self._columns.items():
            dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
            arrays[name] = values[rows].astype(dtype, copy=False)
        for table, widths in self._tables:
            arrays |= padded(table, widths, rows, self._trim_histories)
        return self._as_tensors(arrays)

    def _as_tensors(self, arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return {name: tensor.pin_memory() for name, tensor in batch.items()} if self._pin_memory else batch


def prefetched(items: Iterator[T], ahead: int = 2) -> Generator[T, None, None]:
    """Yield the items, prepared by a thread that is `ahead` items further."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        pending = deque(thread.submit(next, items, None) for _ in range(ahead))
        while (item := pending.popleft().result()) is not None:
            pending.append(thread.submit(next, items, None))
            yield item


def padded(table: HistoryTable, widths: dict[str, int], rows: np.ndarray, trim: bool) -> dict[str, np.ndarray]:
    """Return the sequences of some rows, name -> (B, T) int64.

    Only real behaviours are read.
    """
    start, length = table.start[rows], table.length[rows]
    end = np.cumsum(length)
    source = np.arange(end[-1]) + np.repeat(start - (end - length), length)
    longest = max(int(length.max()), 1)
    real: dict[int, np.ndarray] = {}
    padded = {}
    for name, max_len in widths.items():
        width = longest if trim else max_len
        if width not in real:
            step, edge = np.arange(width), length[:, None]
            real[width] = step >= width - edge if table.padding == "pre" else step < edge
        padded[name] = np.zeros((len(rows), width), dtype=np.int64)
        padded[name][real[width]] = table.columns[name].take(source)
    return padded


class Permutation:
    """Random order of the numbers below n, of which any place is computed separately.

    It is a Feistel network on the smallest even number of bits that can represent n - 1. Numbers from n on are permuted
    again until they fall below n ("cycle walking": Black and Rogaway, Ciphers with arbitrary finite domains, 2002).

    Args:
        size: n, 1 or more.
        seed: determines the order.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        half = max(1, (int(size - 1).bit_length() + 1) // 2)
        self._half, self._mask = np.uint64(half), np.uint64((1 << half) - 1)
        self._keys = np.random.default_rng(seed).integers(0, 2**63, ROUNDS, dtype=np.uint64)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers at some places, int64."""
        numbers = self._once(np.asarray(places).astype(np.uint64))
        while (beyond := numbers >= self.size).any():
            numbers[beyond] = self._once(numbers[beyond])
        return numbers.astype(np.int64)

    def _once(self, numbers: np.ndarray) -> np.ndarray:
        left, right = numbers >> self._half, numbers & self._mask
        first, second = MULTIPLIERS
        for key in self._keys:
            mixed = (right ^ key) * first
            mixed = (mixed ^ (mixed >> np.uint64(29))) * second
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & self._mask)
        return (left << self._half) | right
