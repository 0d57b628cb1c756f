"""Build a data set's folder from raw files or samples.

A build runs in memory, in files, or by FuxiCTR.
"""

import os
from pathlib import Path
from typing import Any

import fuxictr.preprocess

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.ray_loopback import fuxictrs_ray

from ..encoding.encode_splits import encode_splits
from ..encoding.processor import InProcessFeatureProcessor
from ..encoding.reading import SplitReader
from ..encoding.schema import active_columns, check_columns, label_columns
from ..samples.build_samples import build_samples
from ..samples.protocols import SPLITS
from .entry import DatasetEntry
from .memory_mapped import build_memory_mapped


def build_set(entry: DatasetEntry, folder: Path) -> None:
    """Build the data set of an entry in a folder.

    Raises:
        UserError: columns or input files are wrong.
    """
    builds = {"zoo": _build_by_fuxictr, "memory_mapped": build_memory_mapped, "in_memory": _build_in_memory}
    builds[entry.loader](entry, folder)


def _build_in_memory(entry: DatasetEntry, folder: Path) -> None:
    """Build samples from raw files (if the entry has `build`), then encode them."""
    paths: dict[str, str | Path] = {**entry.splits}
    if entry.options:
        build_samples(entry.options, folder / "samples", verbose=entry.verbose > 0)
        paths = {split: folder / "samples" / f"{split}.{entry.data_format}" for split in SPLITS}
    processor = InProcessFeatureProcessor(**entry.for_zoo(folder))
    try:
        raw = {
            split: processor.reader.read(path, entry.data_format, to_fit=split == "train", is_binary=_is_binary(entry))
            for split, path in paths.items()
        }
    except UserError as error:  # a user does not know the temporary folder
        raise UserError(str(error).replace(f"{folder}{os.sep}", "")) from error
    encode_splits(processor, raw, folder, entry.verbose)


def _build_by_fuxictr(entry: DatasetEntry, folder: Path) -> None:
    """Run FuxiCTR's own build, through Ray."""
    if entry.build is not None:
        raise UserError(
            "data_loader: zoo cannot read samples that share histories; build them with format csv by "
            "`python build_dataset.py`, and name the files in train_data, valid_data and test_data"
        )
    columns, labels = active_columns(entry.feature_cols), label_columns(entry.label_col)
    check_columns(columns, labels)
    for path in entry.splits.values():
        reader = SplitReader([], labels, entry.sep)  # FuxiCTR would read an empty label as 0
        reader.read(path, entry.data_format, is_binary=_is_binary(entry))
        SplitReader(columns, labels, entry.sep).require_tokens_of_zoo(path, entry.data_format)
    params: dict[str, Any] = entry.for_zoo(folder) | {"feature_cols": columns, "label_col": labels}
    with fuxictrs_ray():
        fuxictr.preprocess.build_dataset(fuxictr.preprocess.FeatureProcessor(**params), **params)


def _is_binary(entry: DatasetEntry) -> bool:
    return entry.task != "regression"
