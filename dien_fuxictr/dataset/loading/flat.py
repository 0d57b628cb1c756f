"""Data sets that need not fit in memory: built a part of the users at a time, and read from mapped files."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.encoded import HistoryTable
from ..encoding.flat import SHARED, FlatFeatureProcessor, FlatSplit, check_flat, encode_flat
from ..encoding.schema import active_columns, label_columns
from ..samples import flat
from ..samples.behaviour_log import read_log_in_batches
from ..samples.build_options import check_options
from ..samples.build_samples import raw_files
from ..samples.columns import roles_of
from ..samples.disk import Disk
from ..samples.flat_audit import audit_flat, counts_of
from ..samples.leak_audit import say
from ..samples.parts import missing
from ..samples.samples import save_info
from .loader import InMemoryDataLoader, Permutation, padded

READ = ("user", "item", "category", "time", "side", "context", "time_unit", "time_format", "skip_bad_lines")
ONLY = {"label": None, "target": None, "items": None, "side_varies": (), "history_order": "time", "format": "parquet"}
"""Options that have this value only."""
UNSORTED = "bucket_by_length: data_loader: memory_mapped cannot sort rows by length; set it to False"


def build_flat(params: dict, placed: dict, folder: Path) -> None:
    """Build a set of a log in bounded memory.

    Args:
        params: of the experiment, with a `build` section of a log of behaviours.
        placed: the same, for a feature processor that writes into `folder`.
        folder: of the data set.

    Raises:
        UserError: what `data_loader: memory_mapped` cannot build, or wrong input.
    """
    options = check_can_build(params)
    for name, parts in raw_files(options).items():
        if not parts:
            raise UserError(missing(Path(options[name])))
    disk = Disk(folder / "encoded")
    disk.folder.mkdir()
    logging.info(f"Making samples in files: protocol {options['protocol']}")
    arguments = {name: options[name] for name in READ}

    def batches() -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        return read_log_in_batches(Path(options["input"]), **arguments, rows=flat.AT_ONCE)

    samples = flat.make_flat_samples(batches, options, disk)
    info = {"options": options, "counts": counts_of(samples)}
    logging.info(str(info["counts"]))
    logging.info("Auditing")
    info["audit"] = audit_flat(samples, options)
    (folder / "samples").mkdir()
    save_info(info, folder / "samples")
    say(f"Made samples of {samples.rows} behaviours", info["audit"])
    encode_flat(FlatFeatureProcessor(**placed), samples, options["max_len"], folder)
    for scratch in ("used", "rank"):
        disk.path(scratch).unlink(missing_ok=True)


def check_can_build(params: dict) -> dict:
    """The options of the build.

    Raises:
        UserError: what `data_loader: memory_mapped` cannot build, or a wrong option.
    """
    if not params.get("build"):
        raise UserError("data_loader: memory_mapped needs a build section: it makes samples of a log by itself")
    options = check_options(params["build"])
    if options["source"] != "log":
        raise UserError(
            f"data_loader: memory_mapped cannot build from source {options['source']}; data_loader: in_memory can"
        )
    for name, only in ONLY.items():
        if options[name] != only:
            what = name if not only else f"{name}: {options[name]}"
            raise UserError(f"data_loader: memory_mapped cannot build with {what}; data_loader: in_memory can")
    roles = roles_of(flat.columns_of(options), options)
    check_flat(active_columns(params["feature_cols"]), label_columns(params["label_col"]), roles, options["max_len"])
    if params.get("bucket_by_length"):
        raise UserError(UNSORTED)
    return options


class MemoryMappedDataLoader(InMemoryDataLoader):
    """As its base, of arrays that are mapped; the order of an epoch is computed, never held.

    Raises:
        UserError: `bucket_by_length`, which needs the lengths of all rows.
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
        self._flat = FlatSplit.load(Path(data_path))
        self._set_batches(feature_map, len(self._flat), batch_size, shuffle, trim_histories, gpu)

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
        flat, features = self._flat, self.feature_map.features
        many = len(flat.positives)
        place, is_positive = rows % many, rows < many
        positive = flat.positives[place]
        target = np.where(is_positive, positive, flat.negatives[place])
        arrays: dict[str, np.ndarray] = {"label": is_positive.astype(np.float32)}
        for name, column in flat.columns.items():
            if name in features:
                is_shared = name in flat.layout[SHARED]
                arrays[name] = column.take(positive if is_shared else target).astype(np.int64)
        length = flat.length[positive].astype(np.int64)
        for table in flat.layout["tables"]:
            widths = {name: features[name]["max_len"] for name in table if name in features}
            if widths:
                spans = HistoryTable(flat.sequences, positive - length, length, flat.layout["padding"][table[0]])
                arrays |= padded(spans, widths, np.arange(len(rows)), self._trim_histories)
        return self._as_tensors(arrays)
