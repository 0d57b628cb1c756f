"""Batches from arrays in memory, as a drop-in for the zoo's data loaders."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap

from data.encoded import EncodedSplit, HistoryTable, load_split


class InMemoryDataLoader:
    """A seeded loader for the zoo's `data_loader` hook.

    A batch is the zoo's dict over `feature_map.features` and labels: ids (B,) and sequences (B, T) int64, numbers and
    labels (B,) float32. T is the longest history of the batch among the columns of one table, at least 1; or max_len
    where `trim_histories` is off, which models of a fixed length need. Padding is 0, on the side the data set names.

    When shuffling, each pass draws one number from torch's global generator and permutes the rows with it: restoring
    that generator's state before a pass repeats the pass.

    Args:
        feature_map: its features (after `use_features`) and labels are what a batch holds.
        data_path: `encoded/<split>.npz` as `prepare_dataset` names it.
        split: train | valid | test; the zoo passes it, rows come in file order unless `shuffle`.
        batch_size: rows a batch; the last batch may be smaller.
        shuffle: a new order every pass.
        trim_histories: pad to the longest history of the batch instead of max_len.
        **kwargs: other keys of the experiment, which the zoo hands to every loader.
    """

    num_blocks = 1

    def __init__(self, feature_map: FeatureMap, data_path: str | Path, split: str = "train", batch_size: int = 32,
                 shuffle: bool = False, trim_histories: bool = True, **kwargs) -> None:
        self._set_up(feature_map, load_split(Path(data_path)), batch_size, shuffle, trim_histories)

    @classmethod
    def from_encoded(cls, feature_map: FeatureMap, encoded: EncodedSplit, batch_size: int = 32, shuffle: bool = False,
                     trim_histories: bool = True, **kwargs) -> "InMemoryDataLoader":
        """A loader over rows that `Encoder.encode_file` encoded; columns that it left out are not in the batches."""
        loader = cls.__new__(cls)
        loader._set_up(feature_map, encoded, batch_size, shuffle, trim_histories)
        return loader

    def _set_up(self, feature_map: FeatureMap, encoded: EncodedSplit, batch_size: int, shuffle: bool,
                trim_histories: bool) -> None:
        wanted = [*feature_map.features, *feature_map.labels]
        self._columns = {name: encoded.columns[name] for name in wanted if name in encoded.columns}
        self._tables = []
        for table in encoded.tables:
            widths = {name: feature_map.features[name]["max_len"] for name in table.columns if name in wanted}
            if widths:
                self._tables.append((table, widths))
        self._trim_histories = trim_histories
        self._shuffle = shuffle
        self.feature_map = feature_map
        self.batch_size = batch_size
        self.num_samples = len(encoded)
        self.num_batches = -(-self.num_samples // batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        order = np.arange(self.num_samples)
        if self._shuffle:
            seed = int(torch.empty((), dtype=torch.int64).random_())
            order = np.random.default_rng(seed).permutation(self.num_samples)
        for first in range(0, self.num_samples, self.batch_size):
            yield self._batch(order[first:first + self.batch_size])

    def _batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        batch = {}
        for name, values in self._columns.items():
            dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
            batch[name] = torch.from_numpy(values[rows].astype(dtype, copy=False))
        for table, widths in self._tables:
            for name, ids in _padded(table, widths, rows, self._trim_histories).items():
                batch[name] = torch.from_numpy(ids)
        return batch


def _padded(table: HistoryTable, widths: dict[str, int], rows: np.ndarray, trim: bool) -> dict[str, np.ndarray]:
    """The sequences of some rows, name -> (B, T) int64."""
    start, length = table.start[rows, None], table.length[rows, None]
    longest = max(int(length.max()), 1)
    positions: dict[int, np.ndarray] = {}
    padded = {}
    for name, max_len in widths.items():
        width = longest if trim else max_len
        ids = table.columns[name]
        if width not in positions:
            step = np.arange(width)
            if table.padding == "pre":
                step = step - (width - length)
            real = (step >= 0) & (step < length)
            positions[width] = np.where(real, start + step, len(ids) - 1)  # the last stored id is the padding
        padded[name] = ids.take(positions[width]).astype(np.int64)
    return padded
