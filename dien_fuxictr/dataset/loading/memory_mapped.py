"""Data sets larger than memory: built in parts, read from mapped files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.encoded import HistoryTable
from ..encoding.mapped_split import (
    LABELS,
    SHARED,
    VARYING,
    MappedFeatureProcessor,
    MappedSplit,
    check_columns_of_log,
    encode_coded,
)
from ..encoding.schema import active_columns, label_columns
from ..samples.arrays import Disk
from ..samples.build_options import BuildOptions
from ..samples.build_samples import audited_samples, batches_of, require_raw_files
from ..samples.columns import roles_of
from ..samples.leak_audit import say
from ..samples.samples import save_info
from .entry import DatasetEntry
from .loader import InMemoryDataLoader, Permutation, padded

PART_ROWS = 200_000
"""About so many rows of a log are sorted at once."""
UNSORTED = "bucket_by_length: data_loader: memory_mapped cannot sort rows by length; set it to False"


def build_memory_mapped(entry: DatasetEntry, folder: Path) -> None:
    """Build a set from a log in bounded memory, in a folder.

    Raises:
        UserError: the entry has something that `data_loader: memory_mapped` cannot build, or the input is wrong.
    """
    options = check_can_build(entry)
    require_raw_files(options)
    disk = Disk(folder / "encoded")
    disk.folder.mkdir()
    batches = batches_of(options, entry.verbose > 0)
    samples, info = audited_samples(batches, options, disk, PART_ROWS, entry.verbose > 0)
    (folder / "samples").mkdir()
    save_info(info, folder / "samples")
    say(f"Made samples of {samples.behaviours} behaviours", info["audit"])
    encode_coded(MappedFeatureProcessor(**entry.for_zoo(folder)), samples, options.max_len, folder)
    disk.remove("used_history", "time")


def check_can_build(entry: DatasetEntry) -> BuildOptions:
    """Return the options of the build.

    Raises:
        UserError: the entry has something that `data_loader: memory_mapped` cannot build.
    """
    options = entry.options
    if options is None:
        raise UserError("data_loader: memory_mapped needs a build section: it builds its samples from a log")
    if options.format != "parquet":
        raise UserError(
            f"data_loader: memory_mapped cannot build with format: {options.format}; data_loader: in_memory can"
        )
    is_amazon = options.source == "amazon"
    category = ["cate_id"] if is_amazon or options.category else []
    names = ["user_id", "item_id", *category, *options.side, *options.context]
    columns, labels = active_columns(entry.feature_cols), label_columns(entry.label_col)
    has_labels = bool(options.label)
    check_columns_of_log(columns, labels, roles_of(names, options), has_labels, options.max_len)
    if entry.bucket_by_length:
        raise UserError(UNSORTED)
    return options


class MemoryMappedDataLoader(InMemoryDataLoader):
    """Loader like its base class, but of mapped arrays.

    The order of an epoch is computed row by row and never stored.

    Raises:
        UserError: `bucket_by_length` is set, which needs the lengths of all rows.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        data_path: str | Path,
        split: str = "train",
        batch_size: int = 32,
        shuffle: bool = False,
        trim_histories: bool = True,
        bucket_by_length: bool = False,
        gpu: int = -1,
        **kwargs,
    ) -> None:
        if bucket_by_length:
            raise UserError(UNSORTED)
        self._mapped = MappedSplit.load(Path(data_path))
        self._set_batches(feature_map, len(self._mapped), batch_size, shuffle, trim_histories, gpu)

    def _rows_of_batches(self) -> Iterator[np.ndarray]:
        order = None
        if self._shuffle:
            order = Permutation(self.num_samples, int(torch.empty((), dtype=torch.int64).random_()))

        def batches() -> Iterator[np.ndarray]:
            for first in range(0, self.num_samples, self.batch_size):
                places = np.arange(first, min(first + self.batch_size, self.num_samples))
                yield places if order is None else order[places]

        return batches()

    def _batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        mapped, features = self._mapped, self.feature_map.features
        chosen = mapped.samples.choose(mapped.split, rows)
        arrays: dict[str, np.ndarray] = {}
        for name in self.feature_map.labels:
            arrays[name] = chosen.label.astype(np.float32)
        for name, column in mapped.columns.items():
            if name in features or name in mapped.layout[LABELS]:
                row = chosen.row if name in mapped.layout[SHARED] else chosen.target
                values = column.take(chosen.sample if name in mapped.layout[VARYING] else row)
                dtype = np.int64 if np.issubdtype(values.dtype, np.integer) else np.float32
                arrays[name] = values.astype(dtype, copy=False)
        start, length = mapped.samples.spans(chosen.row)
        for table in mapped.layout["tables"]:
            widths = {name: features[name]["max_len"] for name in table if name in features}
            if widths:
                spans = HistoryTable(mapped.sequences, start, length, mapped.layout["padding"][table[0]])
                arrays |= padded(spans, widths, np.arange(len(rows)), self._trim_histories)
        return self._as_tensors(arrays)
