"""Checks of encoded files that cost one pass over their columns, before a model trains on them."""

import glob
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from fuxictr.features import FeatureMap

from dien_fuxictr.common.errors import UserError

from ..encoding.encoded import load_layout
from ..samples.protocols import SPLITS
from .flat import FlatDataLoader
from .loader import InMemoryDataLoader


def check_encoded(feature_map: FeatureMap, params: dict) -> None:
    """Check the files that `prepare_dataset` named.

    Args:
        feature_map: loaded for the experiment.
        params: as `prepare_dataset` returned them, with the fields of the model (`*_sequence_field`, `*_seq_field`).

    Raises:
        UserError: a split without rows, labels that are not 0 or 1 or of one class (unless
            `task: regression`), a missing column or file, an
            id beyond its vocabulary; sequences of one field tuple that differ in padding, or in length in a row. The
            lengths of rows can only be told where histories are ragged, in sets encoded in-process.
    """
    if params.get("data_loader") is FlatDataLoader:  # its samples are of both labels and of one length in a row
        _check_padding(load_layout(Path(params["train_data"]).parent), params)
        return
    in_memory = params.get("data_loader") is InMemoryDataLoader
    for split in SPLITS:
        path = params.get(f"{split}_data")
        if path:
            files = [path] if in_memory else _files(path, params["data_format"])
            _check_labels(split, files, feature_map.labels, "column/" if in_memory else "", params.get("task"))
            if in_memory:
                _check_aligned(split, Path(path), params)
            else:
                _check_ids(split, files, feature_map)


def _files(path: str, data_format: str) -> list[str]:
    """The files that the zoo's loaders read."""
    suffix = ".npz" if data_format == "npz" else ".parquet"
    if Path(path).is_dir() or (suffix == ".parquet" and not path.endswith(suffix)):
        files = sorted(glob.glob(str(Path(path) / f"*{suffix}")))
    else:
        files = sorted(glob.glob(path if path.endswith(suffix) else path + suffix))
    if not files:
        raise UserError(f"{path}: no {suffix} files there")
    return files


def _check_labels(split: str, files: list[str], labels: list[str], prefix: str, task: str | None) -> None:
    for label in labels:
        columns = _columns(split, files, prefix + label)
        values = np.unique(np.concatenate([np.unique(column) for column in columns]))
        if len(values) == 0:
            raise UserError(f"{split} data ({files[0]}): no rows")
        if task == "regression":
            continue
        if not np.isin(values, (0, 1)).all():
            wrong = values[~np.isin(values, (0, 1))][0]
            raise UserError(
                f"{split} data ({files[0]}): {label} has the value {wrong:g}; it must be 0 or 1, unless "
                "task: regression"
            )
        if len(values) == 1:
            raise UserError(f"{split} data ({files[0]}): every {label} is {values[0]:g}; both classes are needed")


def _check_ids(split: str, files: list[str], feature_map: FeatureMap) -> None:
    for name, spec in feature_map.features.items():
        size = feature_map.features.get(spec.get("share_embedding"), spec).get("vocab_size")
        for file, ids in zip(files, _columns(split, files, name), strict=True):
            if spec["type"] in ("categorical", "sequence") and ids.size:
                lowest, highest = int(ids.min()), int(ids.max())
                if lowest < 0 or highest >= size:
                    raise UserError(
                        f"{split} data ({file}): {name} holds the id {lowest if lowest < 0 else highest}, "
                        f"its vocabulary has {size} ids from 0"
                    )


def _columns(split: str, files: list[str], name: str) -> Iterator[np.ndarray]:
    """One column, a file at a time; sequences of Parquet flattened."""
    for file in files:
        try:
            if file.endswith(".npz"):
                with np.load(file) as arrays:
                    yield arrays[name]
            else:
                values = pl.read_parquet(file, columns=[name])[name]
                if isinstance(values.dtype, (pl.List, pl.Array)):
                    values = values.explode(empty_as_null=False).drop_nulls()
                yield values.to_numpy()
        except (KeyError, pl.exceptions.ColumnNotFoundError) as error:
            raise UserError(f"{split} data ({file}): column {name} is missing") from error


def _check_aligned(split: str, path: Path, params: dict) -> None:
    layout = load_layout(path.parent)
    table_of = _check_padding(layout, params)
    with np.load(path) as arrays:
        for fields in _field_tuples(params):
            fields = [name for name in fields if name in table_of]
            for name in fields[1:]:
                first, other = table_of[fields[0]], table_of[name]
                if first != other:
                    a, b = arrays[f"length/{first}"], arrays[f"length/{other}"]
                    row = int(np.argmax(a != b))
                    if a[row] != b[row]:
                        raise UserError(
                            f"{split} data, row {row + 1}: sequences of unequal length: {fields[0]} has "
                            f"{a[row]} behaviours, {name} has {b[row]}"
                        )


def _check_padding(layout: dict, params: dict) -> dict[str, str]:
    """Raise UserError where a field tuple has two sides of padding; returns sequence -> the first one of its table."""
    table_of = {name: table[0] for table in layout["tables"] for name in table}
    padding = layout["padding"]
    for fields in _field_tuples(params):
        first, *others = [name for name in fields if name in table_of] or [""]
        for name in others:
            if padding[table_of[first]] != padding[table_of[name]]:
                raise UserError(
                    f"{first} has padding: {padding[table_of[first]]}, {name} has padding: {padding[table_of[name]]}; "
                    "the fields of a sequence need the same"
                )
    return table_of


def _field_tuples(params: dict) -> list[list[str]]:
    """The sequence columns that must be aligned: those of a field tuple, with those of its negatives' tuple."""
    tuples = []
    for key, value in params.items():
        if key.endswith("_sequence_field"):
            fields = _as_tuples(value)
            negatives = _as_tuples(params.get(key.removesuffix("_sequence_field") + "_neg_seq_field"))
            tuples += [f + (negatives[i] if i < len(negatives) else []) for i, f in enumerate(fields)]
    return tuples


def _as_tuples(value: str | tuple | list | None) -> list[list[str]]:
    """A field is a name, a tuple of names, or a list of either."""
    entries = value if isinstance(value, list) else [value]
    return [[entry] if isinstance(entry, str) else list(entry) for entry in entries if entry]
