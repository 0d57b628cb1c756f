"""Encode samples in files without loading their histories, which are mapped.

Vocabularies and the catalogue of behaviours are computed from counts.
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import require_name

from ..samples.arrays import Arrays, Disk, chunks
from ..samples.coded_samples import AT_ONCE, TOKENS, CodedSamples
from ..samples.columns import Roles
from ..samples.protocols import SPLITS
from ..samples.samples import LEFT_OUT
from .behaviour_catalogue import FOLDER, tuples_of
from .encoded import LAYOUT, load_layout
from .encoder import Encoder
from .processor import InProcessFeatureProcessor
from .reading import SplitReader, source_of
from .stored import damaged, read_array

COLUMN = "flat_columns"
"""Key of layout.json: feature -> the column of the log that it is made of."""
SHARED = "of_positive"
"""Key of layout.json: the features of which a negative has its positive's value."""
UNCLICKED = "unclicked"
"""Key of layout.json: the sequences of items that behaviours were preferred to."""
VARYING = "varying"
"""Key of layout.json: the features whose values are by sample, not by row of the log."""
LABELS = "labels"
"""Key of layout.json: the labels that are made of a column of the log."""


class MappedFeatureProcessor(InProcessFeatureProcessor):
    """Feature processor that fits on the counts of samples in files."""

    def fit_coded(self, samples: CodedSamples, latest: int) -> None:
        """Fit like `fit_splits`; histories were cut to the `latest` behaviours."""
        self._fit(samples, None, latest)

    def _statistics_of(self, column: dict, train: CodedSamples, meta: None) -> dict:
        source = source_of(column)
        if column["type"] == "sequence":
            words = pl.concat([train.words[train.sources[source]], pl.Series([""])])
            return {"value_counts": _by_word(words, train.history_counts[source])}
        if column["type"] == "meta" and not column.get("remap", True):
            return {}
        if column["type"] == "numeric" and "normalizer" not in column:
            return {}
        fitted = ("train", LEFT_OUT)
        counts = train.target_counts(source, (*fitted, "valid", "test") if column["type"] == "meta" else fitted)
        values = values_of_words(column, train.words[source], counts > 0)
        if column["type"] == "numeric":
            self._moments[column["name"]] = _moments(values.to_numpy(), counts)
            return self._moments[column["name"]]
        return {"value_counts": _by_word(values, counts)}


def check_columns_of_log(columns: list[dict], labels: list[dict], roles: Roles, has_labels: bool, latest: int) -> None:
    """Raise UserError for columns that samples in files do not support.

    Args:
        columns: active columns, one name each.
        labels: label columns, one name each.
        roles: roles of the log's columns.
        has_labels: whether the log has exposures.
        latest: number of most recent behaviours that histories are cut to.
    """
    plain = ("user_id", *roles.of_samples)
    histories = CodedSamples(Arrays(), roles, {}, has_labels).sources
    for column in [*labels, *columns]:
        kind, source = column.get("type", "label"), source_of(column)
        known = histories if kind == "sequence" else ("label", *plain) if kind == "label" else plain
        if kind == "embedding" or source not in known:
            raise UserError(
                f"column {column['name']}: data_loader: memory_mapped has no {kind} column {source}; it has "
                f"{', '.join(known)}"
            )
        if kind == "sequence" and column.get("max_len", 0) < latest:
            raise UserError(
                f"max_len = {column.get('max_len', 'missing')} of column {column['name']} must be {latest} or more "
                "with data_loader: memory_mapped; the build cuts histories to this length"
            )


def values_of_words(column: dict, words: pl.Series, used: np.ndarray | None = None) -> pl.Series:
    """Return the values (V,) of a column's words, typed and filled by the reader.

    Args:
        column: an entry of `feature_cols` or `label_col` that is not a sequence.
        words: words of the log's column.
        used: (V,) whether a sample has the word; values of other words are arbitrary.
    """
    kept = words if used is None else pl.select(pl.when(pl.Series(used)).then(words)).to_series()
    kept = kept.alias(source_of(column))
    is_label = "type" not in column
    reader = SplitReader([] if is_label else [column], [column] if is_label else [])
    return reader.read_frame(kept.to_frame()).frame[column["name"]]


def encode_coded(processor: MappedFeatureProcessor, samples: CodedSamples, latest: int, folder: Path) -> None:
    """Fit, and write the files of a data set's folder except the samples' arrays.

    Args:
        processor: not fitted yet; its `data_dir` is `folder`.
        samples: samples in `folder`/encoded.
        latest: number of most recent behaviours that histories were cut to.
        folder: folder of the data set.
    """
    encoded = folder / "encoded"
    processor.fit_coded(samples, latest)
    encoder = processor.encoder()
    every = (*SPLITS, LEFT_OUT)
    sources: dict[str, str] = {}
    tables: dict[str, list[str]] = {}
    for column in encoder.columns:
        name, source = column["name"], source_of(column)
        if column["type"] == "sequence":
            sources[name] = samples.sources[source]
            tables.setdefault(column.get("padding", "post"), []).append(name)
            no_item = [""] if source.startswith("neg_") else []
            ids = encoder.of_words(
                column, pl.concat([samples.words[sources[name]], pl.Series(no_item, dtype=pl.String)])
            )
        else:
            sources[name] = source
            used = samples.target_counts(source, every) > 0 if column["dtype"] != "str" else None
            ids = encoder.of_values(column, values_of_words(column, samples.words[source], used))
        np.save(encoded / f"ids_{name}.npy", ids)
    labels = {}
    for label in processor.label_cols:
        if (source := source_of(label)) != "label":
            labels[label["name"]] = source
            _save_label(label, samples, source, every, encoded)
    layout = {
        "tables": list(tables.values()),
        "padding": {name: padding for padding, names in tables.items() for name in names},
        "truncated": {},
        COLUMN: sources,
        SHARED: [name for name, source in (sources | labels).items() if source in ("user_id", *samples.roles.context)],
    }
    further = {
        VARYING: [
            name
            for name, source in (sources | labels).items()
            if source in samples.roles.varying and not samples.has_labels and name not in layout["padding"]
        ],
        UNCLICKED: [column["name"] for column in encoder.columns if source_of(column).startswith("neg_")],
        LABELS: labels,
    }
    layout |= {key: value for key, value in further.items() if value}
    (encoded / LAYOUT).write_text(json.dumps(layout, indent=4))
    oov = {c["name"]: encoder.vocabularies[c["vocabulary"]]["__OOV__"] for c in encoder.columns if "vocabulary" in c}
    _save_catalogues(samples, layout, processor, encoder, oov, folder)
    for split in SPLITS:
        logging.info(f"Encoded {split}: {samples.size(split)} rows")


def _save_label(label: dict, samples: CodedSamples, source: str, splits: tuple[str, ...], folder: Path) -> None:
    used = samples.target_counts(source, splits) > 0
    values = values_of_words(label, samples.words[source], used).cast(pl.Float32)
    lacking = (values.is_null() | values.is_nan()).to_numpy() & used
    if lacking.any():
        raise UserError(f"label {source} is missing in a row; fill_na in label_col gives a value to empty labels")
    np.save(folder / f"ids_{label['name']}.npy", values.fill_null(0).to_numpy())


def _save_catalogues(
    samples: CodedSamples,
    layout: dict,
    processor: MappedFeatureProcessor,
    encoder: Encoder,
    oov: dict[str, int],
    folder: Path,
) -> None:
    """Write the catalogues like `save_catalogues`, part by part."""
    (folder / FOLDER).mkdir(exist_ok=True)
    used = samples.arrays.open("used_history", bool)
    history = {column["name"]: source_of(column) for column in encoder.columns}
    for table in layout["tables"]:
        for fields in tuples_of(table, processor.feature_map.features):
            ids = [np.load(folder / "encoded" / f"ids_{name}.npy") for name in fields]
            parts: list[list[np.ndarray]] = []
            for part in chunks(samples.behaviours, AT_ONCE):
                rows = np.flatnonzero(used[part]) + part.start
                codes = [samples.codes_at(history[name], rows, in_order=False) for name in fields]
                behaviours = [of_word[code] for of_word, code in zip(ids, codes, strict=True)]
                known = (behaviours[0] != 0) & (behaviours[0] != oov[fields[0]])
                parts.append(_added_up([[*(each[known] for each in behaviours), np.ones(known.sum(), np.int64)]]))
                if sum(len(counts) for *_, counts in parts[1:]) > len(parts[0][-1]) + AT_ONCE:
                    parts = [_added_up(parts)]
            *columns, counts = _added_up(parts)
            arrays = dict(zip(fields, columns, strict=True))
            np.savez(folder / FOLDER / f"{fields[0]}.npz", allow_pickle=False, **arrays, count=counts)


def _added_up(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Sum the counts of equal rows; rows are returned in ascending order.

    Args:
        parts: columns of each part, the last of which are counts.
    """
    *columns, counts = map(np.concatenate, zip(*parts, strict=True))
    if not len(counts):
        return [*columns, counts]
    order = np.lexsort(columns[::-1])
    columns = [column[order] for column in columns]
    first = np.append(True, np.any([np.diff(column) != 0 for column in columns], axis=0))[: len(order)]
    return [*(column[first] for column in columns), np.add.reduceat(counts[order], np.flatnonzero(first))]


def _by_word(words: pl.Series, counts: np.ndarray) -> dict:
    found: dict = {}
    for word, count in zip(words.to_list(), counts.tolist(), strict=True):
        if count:
            found[word] = found.get(word, 0) + count
    return found


def _moments(values: np.ndarray, counts: np.ndarray) -> dict:
    known = (counts > 0) & ~np.isnan(values)
    values, counts = values[known].astype(np.float64), counts[known]
    mean = float((values * counts).sum() / counts.sum())
    variance = float((counts * (values - mean) ** 2).sum() / counts.sum())
    extremes = {"min": float(values.min()), "max": float(values.max())}
    return extremes | {"mean": mean, "std": variance**0.5, "count": int(counts.sum())}


@dataclass(frozen=True)
class MappedColumn:
    """Values of a column by row of the log, computed when they are taken.

    Rows may also be behaviours of a history, or samples.

    Attributes:
        ids: (V,) value of each word.
        codes: (rows,) number of the word of each row.
        via: mapped arrays of indices that lead to a row, the last one first; -1 selects the last of the ids.
    """

    ids: np.ndarray
    codes: np.ndarray
    via: tuple[np.ndarray, ...] = ()

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the values at some places."""
        for array in self.via:
            places = array[places]
        if self.via and len(places) and places.min() < 0:
            return self.ids[np.where(places < 0, -1, self.codes[np.maximum(places, 0)])]
        return self.ids[self.codes[places]]


@dataclass(frozen=True)
class MappedSplit:
    """Split whose arrays are mapped from files; see `samples.coded_samples`.

    Attributes:
        columns: feature that is not a sequence, or label from a column of the log -> values by row of the log, or by
            sample.
        sequences: sequence -> ids by place.
        layout: layout.json.
        samples: samples whose splits and spans are read.
        split: name of the split.
    """

    columns: dict[str, MappedColumn]
    sequences: dict[str, Any]
    layout: dict
    samples: CodedSamples
    split: str

    def __len__(self) -> int:
        return self.samples.size(self.split)

    @classmethod
    def load(cls, path: Path) -> "MappedSplit":
        """Map a split: `encoded/rows_<split>.bin`.

        Raises:
            UserError: a file is damaged.
        """
        disk, split = Mapped(path.parent), path.stem.removeprefix("rows_")
        layout = load_layout(path.parent)
        if not isinstance(sources := layout.get(COLUMN), dict):
            raise damaged(path.parent / LAYOUT, f"{COLUMN} is {sources!r}")
        layout.setdefault(SHARED, [name for name, source in sources.items() if source == "user_id"])
        layout.setdefault(VARYING, [])
        layout.setdefault(UNCLICKED, [])
        labels = layout.setdefault(LABELS, {})
        for name in (*sources, *sources.values(), *labels, *labels.values()):
            require_name(f"column in {path.parent / LAYOUT}", name)  # it is part of file names
        names = (f"{step}_history" for step in ("order", "behaviour", "unclicked"))
        steps = {name: disk.open(name, np.int64) for name in names if disk.has(name)}

        def looked(name: str, source: str) -> MappedColumn:
            file = f"{source}_{split}_history" if name in layout[VARYING] else source
            via = (
                ("order_history", "unclicked_history" if name in layout[UNCLICKED] else "behaviour_history")
                if name in layout["padding"]
                else ()
            )
            return MappedColumn(
                read_array(path.parent / f"ids_{name}.npy"),
                disk.open(file, np.int8 if source in TOKENS else np.int32),
                tuple(steps[step] for step in via if step in steps),
            )

        every = {name: looked(name, source) for name, source in (sources | labels).items()}
        samples = CodedSamples(disk, Roles([], [], [], []), {}, disk.has("label"))
        return cls(
            {name: column for name, column in every.items() if name not in layout["padding"]},
            {name: column for name, column in every.items() if name in layout["padding"]},
            layout,
            samples,
            split,
        )


class Mapped(Disk):
    """Folder of arrays that do not change: each is opened once.

    A damaged file raises UserError.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._known: dict[str, np.ndarray] = {}
        self._absent: set[str] = set()

    def has(self, name: str) -> bool:
        """Return whether the folder has an array of this name."""
        if name not in self._known and name not in self._absent and not super().has(name):
            self._absent.add(name)
        return name not in self._absent

    def open(self, name: str, dtype: Any, mode: Any = "r") -> np.ndarray:
        """Return the array of this name, mapped from its file."""
        if name not in self._known:
            try:
                self._known[name] = super().open(name, dtype, mode)
            except ValueError as error:
                raise damaged(self.path(name), error) from error
        return self._known[name]
