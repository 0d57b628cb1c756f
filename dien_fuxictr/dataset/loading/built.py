"""Check shapes, types and ranges in a data set that was built in-process."""

import sys
from pathlib import Path

import numpy as np
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.behaviour_catalogue import FOLDER
from ..encoding.encoded import LAYOUT, EncodedSplit
from ..encoding.encoder import Encoder
from ..encoding.fit import check_fit
from ..encoding.mapped_split import COLUMN, LABELS, VARYING, MappedSplit
from ..encoding.stored import read_arrays, read_json, require_integers, require_range
from ..samples.arrays import Disk, chunks
from ..samples.coded_samples import AT_ONCE


def check_split(where: str, folder: Path, split: EncodedSplit, feature_map: FeatureMap) -> None:
    """Check the columns and histories of one split.

    Args:
        where: place of the split, which begins messages.
        folder: folder of the encoded files.
        split: the split.
        feature_map: feature map of the experiment.

    Raises:
        UserError: a column is missing or has the wrong shape or type, an id is beyond its vocabulary, or a span is
            beyond the stored behaviours.
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
    """Check the stored behaviours, which all splits share.

    Arguments and errors are those of `check_split`.
    """
    for table in split.tables:
        size = max(map(len, table.columns.values()))
        for name, ids in table.columns.items():
            file = folder / "histories" / f"{name}.npy"
            require_integers(f"{file}: {name}", ids, size)
            if name in feature_map.features:
                require_ids(f"{file}: {name}", ids, feature_map, name)


def check_mapped(feature_map: FeatureMap, path: Path, split: str) -> None:
    """Check the mapped files of one split: row numbers must exist in the log.

    Args:
        feature_map: feature map of the experiment.
        path: `encoded/rows_<split>.bin`.
        split: name of the split.

    Raises:
        UserError: see `check_split`.
    """
    mapped, disk = MappedSplit.load(path), Disk(path.parent)
    arrays = mapped.samples.arrays
    length, positives = mapped.samples.lengths, mapped.samples.positives(split)
    rows = len(length)
    if not len(positives):
        raise UserError(f"{split} data ({path}) has no rows")
    lists = {f"rows_{split}": len(positives)}
    lists |= {} if mapped.samples.has_labels else {f"negative_{split}": len(positives)}
    for name, size in lists.items():
        values = arrays.open(name, np.int64)
        require_integers(f"{disk.path(name)}", values, size)
        require_range(f"{disk.path(name)}", values, 0, rows - 1, f"the log has {rows} rows")
    behaviours = rows
    for name, lowest in ("behaviour_history", 0), ("unclicked_history", -1):
        if arrays.has(name):
            values = arrays.open(name, np.int64)
            behaviours = len(values)
            require_range(f"{disk.path(name)}", values, lowest, rows - 1, f"the log has {rows} rows")
    places = behaviours
    if arrays.has("order_history"):
        values = arrays.open("order_history", np.int64)
        places = len(values)
        require_range(f"{disk.path('order_history')}", values, 0, behaviours - 1, f"there are {behaviours} behaviours")
    if mapped.samples.has_labels:
        label = arrays.open("label", np.int8)
        require_integers(f"{disk.path('label')}", label, rows)
        require_range(f"{disk.path('label')}", label, 0, 1, "a label is 0 or 1")
    if arrays.has("history_start"):
        start = arrays.open("history_start", np.int64)
        require_integers(f"{disk.path('history_start')}", start, rows)
        require_range(f"{disk.path('history_start')}", start, 0, places, f"there are {places} behaviours")
    for part in chunks(rows, AT_ONCE):
        begin = arrays.open("history_start", np.int64)[part] if arrays.has("history_start") else 0
        end = places if arrays.has("history_start") else np.arange(part.start, part.stop)
        wrong = length[part][(length[part] < 0) | (begin + length[part] > end)]
        if len(wrong):
            file = disk.path("history_length" if arrays.has("history_length") else "length")
            raise UserError(f"{file} holds {wrong[0]}; a history must be rows that precede its own row")
    columns = mapped.columns | mapped.sequences
    if missing := [name for name in feature_map.features if name not in columns]:
        raise UserError(f"{disk.folder / LAYOUT}: column {missing[0]} is missing")
    for name, column in columns.items():
        varies = name in mapped.layout[VARYING]
        source = mapped.layout[COLUMN].get(name) or mapped.layout[LABELS][name]
        file, source = disk.folder / f"ids_{name}.npy", disk.path(f"{source}_{split}_history" if varies else source)
        kind = feature_map.features.get(name, {}).get("type", "numeric" if name in mapped.layout[LABELS] else "meta")
        if kind == "numeric":
            _require_numbers(f"{file}: {name}", column.ids, len(column.ids), 1)
        else:
            require_integers(f"{file}: {name}", column.ids)
        require_integers(f"{source}", column.codes, len(mapped) if varies else rows)
        require_range(f"{source}", column.codes, 0, len(column.ids) - 1, f"{file} has {len(column.ids)} ids")
        if kind in ("categorical", "sequence"):
            require_ids(f"{file}: {name}", column.ids, feature_map, name)


def check_beside(feature_map: FeatureMap, folder: Path, params: dict) -> None:
    """Check the other files: catalogues of behaviours, encoder, vocabularies.

    Args:
        feature_map: feature map of the experiment.
        folder: folder of the data set.
        params: settings of the experiment.

    Raises:
        UserError: a file is damaged, or does not match the feature map.
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
    """Raise UserError for an id beyond the vocabulary of a feature.

    A shared embedding has the vocabulary of the feature that owns it.
    """
    spec = feature_map.features[name]
    size = feature_map.features.get(spec.get("share_embedding"), spec)["vocab_size"]
    require_range(where, ids, 0, size - 1, f"its vocabulary has {size} ids from 0", "the id ")


def _require_numbers(where: str, values: np.ndarray, rows: int, axes: int) -> None:
    if values.ndim != axes or len(values) != rows:
        raise UserError(f"{where} has the shape {values.shape}; it must have {rows} rows and {axes} axes")
    if not np.issubdtype(values.dtype, np.number):
        raise UserError(f"{where} is of the type {values.dtype}; the values must be numbers")
