"""Check the files of a data set that was built in-process, shapes, types and ranges, in one pass."""

import sys
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.behaviour_catalogue import FOLDER
from ..encoding.encoded import LAYOUT, EncodedSplit
from ..encoding.encoder import Encoder
from ..encoding.fit import check_fit
from ..encoding.flat import COLUMN, FlatSplit
from ..encoding.stored import read_arrays, read_json, require_integers, require_range
from ..samples.disk import Disk, chunks
from ..samples.flat import AT_ONCE


def check_split(where: str, folder: Path, split: EncodedSplit, feature_map: FeatureMap) -> None:
    """Check the columns and histories of one split.

    Args:
        where: begins the line of an error.
        folder: of the encoded files.
        split: as it was read.
        feature_map: of the experiment.

    Raises:
        UserError: a column is missing, or of another shape or type; an id beyond its vocabulary; a span beyond the
            stored behaviours.
    """
    rows = len(split)
    for name in [*feature_map.labels, *feature_map.features]:
        kind = "label" if name in feature_map.labels else feature_map.features[name]["type"]
        stored = split.columns if kind != "sequence" else {name for table in split.tables for name in table.columns}
        if name not in stored:
            raise UserError(f"{where}: column {name} is missing")
        if kind in ("categorical", "meta"):
            require_integers(f"{where}: {name}", split.columns[name], rows)
            if kind == "categorical":
                require_ids(f"{where}: {name}", split.columns[name], feature_map, name)
        elif kind != "sequence":
            _require_numbers(f"{where}: {name}", split.columns[name], rows, 2 if kind == "embedding" else 1)
    for table in split.tables:
        first = next(iter(table.columns))
        features = [feature_map.features[name] for name in table.columns if name in feature_map.features]
        longest = min((feature["max_len"] for feature in features), default=sys.maxsize)
        require_integers(f"{where}: start/{first}", table.start, rows)
        require_integers(f"{where}: length/{first}", table.length, rows)
        require_range(f"{where}: length/{first}", table.length, 0, longest, f"it must be 0 to max_len {longest}")
        behaviours = len(table.columns[first]) - 1
        there = f"{behaviours} behaviours are stored in {folder / 'histories' / first}.npy"
        for name, values in ("start", table.start), ("start + length", table.start + table.length):
            require_range(f"{where}: {name} of {first}", values, 0, behaviours, there)


def check_histories(folder: Path, split: EncodedSplit, feature_map: FeatureMap) -> None:
    """Check the stored behaviours, which all splits share; arguments and errors are those of `check_split`."""
    for table in split.tables:
        size = max(map(len, table.columns.values()))
        for name, ids in table.columns.items():
            file = folder / "histories" / f"{name}.npy"
            require_integers(f"{file}: {name}", ids, size)
            if name in feature_map.features:
                require_ids(f"{file}: {name}", ids, feature_map, name)


def check_flat(feature_map: FeatureMap, path: Path, split: str) -> None:
    """Check the mapped files of one split: whatever names rows of the log names some that are there.

    Args:
        feature_map: of the experiment.
        path: `encoded/rows_<split>.bin`.
        split: its name.

    Raises:
        UserError: as of `check_split`.
    """
    flat, disk = FlatSplit.load(path), Disk(path.parent)
    rows, samples = len(flat.length), len(flat.positives)
    if not samples:
        raise UserError(f"{split} data ({path}): no rows")
    for name, values in (f"rows_{split}", flat.positives), (f"negative_{split}", flat.negatives):
        require_integers(f"{disk.path(name)}", values, samples)
        require_range(f"{disk.path(name)}", values, 0, rows - 1, f"the log has {rows} rows")
    for part in chunks(rows, AT_ONCE):
        length = flat.length[part]
        wrong = length[(length < 0) | (length > np.arange(part.start, part.stop))]
        if len(wrong):
            raise UserError(f"{disk.path('length')} holds {wrong[0]}; a history lies in the rows before its own")
    columns = flat.columns | flat.sequences
    if missing := [name for name in feature_map.features if name not in columns]:
        raise UserError(f"{disk.folder / LAYOUT}: column {missing[0]} is missing")
    for name, column in columns.items():
        file, source = disk.folder / f"ids_{name}.npy", disk.path(flat.layout[COLUMN][name])
        require_integers(f"{file}: {name}", column.ids)
        require_integers(f"{source}", column.codes, rows)
        require_range(f"{source}", column.codes, 0, len(column.ids) - 1, f"{file} has {len(column.ids)} ids")
        if name in feature_map.features and feature_map.features[name]["type"] != "meta":
            require_ids(f"{file}: {name}", column.ids, feature_map, name)


def check_beside(feature_map: FeatureMap, folder: Path, params: dict) -> None:
    """Check what lies beside the rows: catalogues of behaviours, encoder, vocabularies.

    Args:
        feature_map: of the experiment.
        folder: of the data set.
        params: of the experiment.

    Raises:
        UserError: a file is damaged, or does not fit the feature map.
    """
    for file in sorted((folder / FOLDER).glob("*.npz")):
        arrays = read_arrays(file)
        if "count" not in arrays:
            raise UserError(f"{file}: count is missing")
        for name, values in arrays.items():
            require_integers(f"{file}: {name}", values, arrays["count"].size)
            if name in feature_map.features:
                require_ids(f"{file}: {name}", values, feature_map, name)
        require_range(f"{file}: count", arrays["count"], 1, sys.maxsize, "a behaviour occurs once or more")
    check_fit(Encoder.load(folder, params), feature_map, f"data set {folder}")
    read_json(folder / "feature_vocab.json", lambda words: [ids.items() for ids in words.values()])


def require_ids(where: str, ids: np.ndarray, feature_map: FeatureMap, name: str) -> None:
    """Raise UserError for an id beyond the vocabulary of a feature, or of the one whose embedding it shares."""
    spec = feature_map.features[name]
    size = feature_map.features.get(spec.get("share_embedding"), spec)["vocab_size"]
    require_range(where, ids, 0, size - 1, f"its vocabulary has {size} ids from 0", "the id ")


def _require_numbers(where: str, values: np.ndarray, rows: int, axes: int) -> None:
    if values.ndim != axes or len(values) != rows:
        raise UserError(f"{where} has the shape {values.shape}; it must have {rows} rows and {axes} axes")
    if not np.issubdtype(values.dtype, np.number):
        raise UserError(f"{where} is of the type {values.dtype}; the values must be numbers")
