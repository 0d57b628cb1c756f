"""Check encoded files in one pass over their columns, before training."""

import glob
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.encoded import EncodedSplit, load_layout, load_split
from ..encoding.stored import UNREADABLE
from ..samples.protocols import SPLITS
from .built import check_beside, check_histories, check_mapped, check_split, require_ids
from .loader import InMemoryDataLoader
from .memory_mapped import MemoryMappedDataLoader


def check_encoded(feature_map: FeatureMap, params: dict) -> None:
    """Check the files that `prepare_dataset` named.

    Args:
        feature_map: loaded for the experiment.
        params: result of `prepare_dataset`, with the fields of the model (`*_sequence_field`, `*_seq_field`).

    Raises:
        UserError: a file is damaged; a split has no rows; labels are not 0 or 1, or have one class only (unless `task:
            regression`); a column or file is missing; a column has the wrong shape or type; an id is beyond its
            vocabulary; sequences of one field tuple differ in padding, or in length in a row. Lengths can only be
            checked if histories are ragged, in sets encoded in-process.
    """
    paths = {split: path for split in SPLITS if (path := params.get(f"{split}_data"))}
    if params.get("data_loader") is MemoryMappedDataLoader:  # its samples have both labels, and equal lengths in a row
        for split, path in paths.items():
            check_mapped(feature_map, Path(path), split)
        _check_padding(load_layout(Path(params["train_data"]).parent), params)
        check_beside(feature_map, Path(params["train_data"]).parents[1], params)
        return
    if params.get("data_loader") is InMemoryDataLoader:
        for split, path in paths.items():
            encoded, folder = load_split(Path(path)), Path(path).parent
            if split == "train":
                check_histories(folder, encoded, feature_map)
            check_split(f"{split} data ({path})", folder, encoded, feature_map)
            labels = {label: [encoded.columns[label]] for label in feature_map.labels}
            _check_labels(f"{split} data ({path})", labels, params.get("task"))
            _check_aligned(split, encoded, load_layout(folder), params)
        check_beside(feature_map, Path(params["train_data"]).parents[1], params)
        return
    for split, path in paths.items():
        files = _files(path, params["data_format"])
        labels = {label: [values for values, _ in _columns(split, files, label)] for label in feature_map.labels}
        _check_labels(f"{split} data ({files[0]})", labels, params.get("task"))
        _check_ids(split, files, feature_map)


def _files(path: str, data_format: str) -> list[str]:
    """Return the files that the zoo's loaders read."""
    suffix = ".npz" if data_format == "npz" else ".parquet"
    if Path(path).is_dir() or (suffix == ".parquet" and not path.endswith(suffix)):
        files = sorted(glob.glob(str(Path(path) / f"*{suffix}")))
    else:
        files = sorted(glob.glob(path if path.endswith(suffix) else path + suffix))
    if not files:
        raise UserError(f"{path} has no {suffix} files")
    return files


def _check_labels(where: str, labels: dict[str, list[np.ndarray]], task: str | None) -> None:
    for label, parts in labels.items():
        values = np.unique(np.concatenate([np.unique(part) for part in parts]))
        if len(values) == 0:
            raise UserError(f"{where} has no rows")
        if task == "regression":
            continue
        if not np.isin(values, (0, 1)).all():
            wrong = values[~np.isin(values, (0, 1))][0]
            raise UserError(f"{where}: {label} = {wrong:g} must be 0 or 1, unless task: regression")
        if len(values) == 1:
            raise UserError(f"{where}: every {label} is {values[0]:g}; both classes are needed")


def _check_ids(split: str, files: list[str], feature_map: FeatureMap) -> None:
    """Check shapes and ids in files that the zoo's loaders read."""
    label_shapes = [shape for _, shape in _columns(split, files, feature_map.labels[0])]
    for name, spec in feature_map.features.items():
        width = (spec["max_len"],) if spec["type"] == "sequence" else ()
        for file, rows, (values, shape) in zip(files, label_shapes, _columns(split, files, name), strict=True):
            where = f"{split} data ({file}): {name}"
            if shape[:1] != rows or (spec["type"] != "embedding" and shape[1:] != width):
                raise UserError(f"{where} has the shape {shape}; it must be {(*rows, *width)}")
            if spec["type"] in ("categorical", "sequence"):
                if not np.issubdtype(values.dtype, np.number):
                    raise UserError(f"{where} is of the type {values.dtype}; the values must be numbers")
                require_ids(where, values, feature_map, name)


def _columns(split: str, files: list[str], name: str) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Yield one column and its shape, file by file.

    Sequences in Parquet are flattened; their length is -1 if rows differ in length.
    """
    for file in files:
        where = f"{split} data ({file})"
        try:
            if file.endswith(".npz"):
                with np.load(file) as arrays:
                    values = arrays[name]
                    yield values, values.shape
                    continue
            column = pl.read_parquet(file, columns=[name])[name]
        except (KeyError, pl.exceptions.ColumnNotFoundError) as error:
            raise UserError(f"{where}: column {name} is missing") from error
        except (*UNREADABLE, pl.exceptions.PolarsError) as error:
            raise UserError(f"{where} is damaged ({error})") from error
        shape = (column.len(),)
        if isinstance(column.dtype, (pl.List, pl.Array)):
            lengths = (column.list if isinstance(column.dtype, pl.List) else column.arr).len().unique()
            shape = (*shape, int(lengths[0]) if len(lengths) == 1 else -1)
            column = column.explode(empty_as_null=False).drop_nulls()
        yield column.to_numpy(), shape


def _check_aligned(split: str, encoded: EncodedSplit, layout: dict, params: dict) -> None:
    table_of = _check_padding(layout, params)
    lengths = {next(iter(table.columns)): table.length for table in encoded.tables}
    for fields in _field_tuples(params):
        fields = [name for name in fields if name in table_of]
        for name in fields[1:]:
            a, b = lengths[table_of[fields[0]]], lengths[table_of[name]]
            row = int(np.argmax(a != b))
            if a[row] != b[row]:
                raise UserError(
                    f"{split} data, row {row + 1}: sequences of unequal length: {fields[0]} has "
                    f"{a[row]} behaviours, {name} has {b[row]}"
                )


def _check_padding(layout: dict, params: dict) -> dict[str, str]:
    """Raise UserError if a field tuple has two sides of padding.

    Returns:
        Sequence -> the first sequence of its table.
    """
    table_of = {name: table[0] for table in layout["tables"] for name in table}
    padding = layout["padding"]
    for fields in _field_tuples(params):
        first, *others = [name for name in fields if name in table_of] or [""]
        for name in others:
            if padding[table_of[first]] != padding[table_of[name]]:
                raise UserError(
                    f"{first} has padding: {padding[table_of[first]]}, {name} has padding: {padding[table_of[name]]}; "
                    "the fields of a sequence need the same padding"
                )
    return table_of


def _field_tuples(params: dict) -> list[list[str]]:
    """Return the sequence columns that must be aligned.

    These are the columns of a field tuple, and of the tuple of its negatives.
    """
    tuples = []
    for key, value in params.items():
        if key.endswith("_sequence_field"):
            fields = _as_tuples(value)
            negatives = _as_tuples(params.get(key.removesuffix("_sequence_field") + "_neg_seq_field"))
            tuples += [f + (negatives[i] if i < len(negatives) else []) for i, f in enumerate(fields)]
    return tuples


def _as_tuples(value: str | tuple | list | None) -> list[list[str]]:
    """Return a field as a list of tuples of names.

    A field is a name, a tuple of names, or a list of either.
    """
    entries = value if isinstance(value, list) else [value]
    return [[entry] if isinstance(entry, str) else list(entry) for entry in entries if entry]
