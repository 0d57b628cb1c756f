"""Prepare the data set of an entry: encoded files and the loader that reads them.

A missing set is built, a changed one is refused.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import fuxictr.preprocess

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.lock import held

from ..encoding.encoded import load_layout
from ..encoding.encoder import warn_truncated
from ..samples.build_samples import raw_files
from ..samples.columns import leaking_columns
from ..samples.protocols import SPLITS
from ..samples.raw_table import has_more_rows
from .build_set import build_set
from .entry import DatasetEntry
from .fingerprint import Fingerprint
from .loader import InMemoryDataLoader
from .memory_mapped import MemoryMappedDataLoader, check_can_build
from .publish import FEATURE_MAP, build_and_publish

MAPPED_ABOVE = 20_000_000
"""A log of more rows is not held in memory."""


def prepare_dataset(entry: DatasetEntry, rebuild: bool = False) -> dict[str, Any]:
    """Build a data set unless it exists, and return how the zoo reads it.

    A folder data_root/dataset_id with feature_map.json and fingerprint.json is reused if its inputs and entry are
    unchanged. A folder without fingerprint.json was built by FuxiCTR and is read by its loaders.

    Args:
        entry: `data_loader: in_memory` encodes in this process; `memory_mapped` does so for some users at a time; `zoo`
            (default for npz, and for parquet with `rebuild_dataset: False`) leaves it to FuxiCTR. The default for other
            formats is the loader that the set was built with, or the result of `choose_loader`.
        rebuild: build again although the set exists; it is replaced only when the new one is complete.

    Returns:
        The keys that replace those of the entry: train_data, valid_data and test_data (None if absent) name encoded
        files; data_loader is the class `InMemoryDataLoader` or `MemoryMappedDataLoader`, None for the zoo's own
        loaders.

    Raises:
        UserError: the entry or a file is wrong, or the set was built from other inputs or keys.
    """
    if entry.is_encoded:
        _ensure_feature_map(entry)
        return {"data_loader": None}
    if _is_built(entry) and Fingerprint.load(entry.data_dir) is None:
        _use_as_it_is(entry, rebuild)
        return {"data_loader": None} if entry.data_format == "parquet" else _files_of_fuxictr(entry)
    if not entry.data_loader:
        stays = Fingerprint.load(entry.data_dir) if _is_built(entry) and not rebuild else None
        entry = replace(entry, data_loader=choose_loader(entry, stays))
    _ensure_built(entry, rebuild)
    for column in leaking_columns(entry.samples_dir):
        logging.warning(
            f"{entry.samples_dir}: side column {column!r} is not a property of the item, and a negative has the value "
            "of another user's row: a model can read the label from it. Build the samples again, with the column in "
            "--context or --side-varies"
        )
    files = {"zoo": _files_of_fuxictr, "memory_mapped": _files_on_disk, "in_memory": _files_in_memory}
    return files[entry.loader](entry)


def choose_loader(entry: DatasetEntry, built: Fingerprint | None) -> Literal["in_memory", "memory_mapped"]:
    """Return the loader of the existing set, else one chosen by the size of the log.

    Args:
        entry: an entry whose splits are not encoded.
        built: fingerprint of the existing set, unless it is to be replaced.

    Returns:
        in_memory | memory_mapped.

    Raises:
        UserError: the log cannot be read.
    """
    if built:
        return "memory_mapped" if built.entry.get("data_loader") == "memory_mapped" else "in_memory"
    options = entry.options
    if options is None or options.source != "log":
        return "in_memory"
    if not has_more_rows(Path(options.input), raw_files(options)["input"], MAPPED_ABOVE):
        return "in_memory"
    size = f"{options.input} has more than {MAPPED_ABOVE:,} rows"
    try:
        check_can_build(entry)
    except UserError as error:
        logging.warning(f"{size}; all are held in memory: {error}")
        return "in_memory"
    logging.info(
        f"{size}; samples are built into memory-mapped files (data_loader: memory_mapped); data_loader: in_memory in "
        "the data set's entry holds them in memory"
    )
    return "memory_mapped"


def _is_built(entry: DatasetEntry) -> bool:
    return (entry.data_dir / FEATURE_MAP).is_file()


def _ensure_feature_map(entry: DatasetEntry) -> None:
    """Create the feature map of encoded Parquet files if it is missing.

    Raises:
        UserError: npz files have no feature map.
    """
    if entry.data_format == "parquet" and not _is_built(entry):
        processor = fuxictr.preprocess.FeatureProcessor(**entry.for_zoo())
        try:
            processor.fit(None, rebuild_dataset=False)
        except ValueError as error:
            raise UserError(f"data set {entry.dataset_id}: {error}") from error
    if not _is_built(entry):
        raise UserError(
            f"{entry.data_dir / FEATURE_MAP} does not exist: npz files need the feature map that they were encoded with"
        )


def _use_as_it_is(entry: DatasetEntry, rebuild: bool) -> None:
    """Check and log the use of a set that FuxiCTR built."""
    if rebuild or entry.build is not None:
        raise UserError(
            f"{entry.data_dir} has a feature_map.json but no fingerprint.json: it was not built here and is "
            "never deleted; move it away to build it again"
        )
    logging.info(f"{entry.data_dir} was built by FuxiCTR itself; it is used unchanged, through FuxiCTR's loader")


def _ensure_built(entry: DatasetEntry, rebuild: bool) -> None:
    entry.require("feature_cols", "label_col")
    before = Fingerprint.load(entry.data_dir)
    if before and _is_built(entry) and not rebuild:
        return _check_unchanged(entry, before)
    lock = entry.data_dir.with_name(f".{entry.data_dir.name}.lock")
    with held(lock, f"data set {entry.data_dir}", wait=True):
        known = Fingerprint.load(entry.data_dir)
        if known and known != before and _is_built(entry):  # built while this process waited for the lock
            return _check_unchanged(entry, known)
        logging.info(f"Building data set {entry.data_dir}", extra={"screen": f"  building  {entry.data_dir}"})
        build_and_publish(entry.data_dir, partial(build_set, entry), entry.fingerprint(known, required=True), known)
        logging.info(f"Built data set {entry.data_dir}")


def _check_unchanged(entry: DatasetEntry, known: Fingerprint) -> None:
    present = entry.fingerprint(known, required=False)
    if changes := present.changes_since(known):
        raise UserError(
            f"{entry.data_dir} was built from other files or keys ({'; '.join(changes)}); --rebuild builds it again"
        )
    known.check_whole(entry.data_dir)
    if present.inputs != {role: known.inputs[role] for role in present.inputs}:
        # The content is unchanged, the times are not: store them so that the next run reads no file.
        try:
            replace(known, inputs=known.inputs | present.inputs).save(entry.data_dir)
        except OSError as error:
            logging.info(f"Cannot refresh the fingerprint of {entry.data_dir}: {error}")


def _files_in_memory(entry: DatasetEntry) -> dict:
    """Return the files that `build` has written, and the loader that reads them."""
    folder = entry.data_dir / "encoded"
    warn_truncated(load_layout(folder)["truncated"])
    files = {f"{split}_data": folder / f"{split}.npz" for split in SPLITS}
    paths = {key: str(file) if file.exists() else None for key, file in files.items()}
    return {**paths, "data_loader": InMemoryDataLoader}


def _files_on_disk(entry: DatasetEntry) -> dict:
    folder = entry.data_dir / "encoded"
    return {
        **{f"{split}_data": str(folder / f"rows_{split}.bin") for split in SPLITS},
        "data_loader": MemoryMappedDataLoader,
    }


def _files_of_fuxictr(entry: DatasetEntry) -> dict:
    """Return the files that FuxiCTR's build_dataset has written."""
    suffix = "" if entry.data_block_size > 0 else ".parquet"
    files = {split: str(entry.data_dir / f"{split}{suffix}") for split in entry.splits}
    return {**{f"{split}_data": files.get(split) for split in SPLITS}, "data_loader": None}
