"""Samples in files -> ids: vocabularies and the catalogue of behaviours by counts, histories mapped, not loaded."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import require_name

from ..samples.columns import Roles, history_of
from ..samples.disk import Disk, chunks
from ..samples.flat import AT_ONCE, TOKENS, FlatSamples
from ..samples.protocols import SPLITS
from ..samples.samples import LEFT_OUT
from .behaviour_catalogue import FOLDER, tuples_of
from .encoded import LAYOUT, load_layout
from .processor import InProcessFeatureProcessor
from .reading import source_of
from .stored import damaged, read_array

COLUMN = "flat_columns"
"""Key of layout.json: feature -> the column of the log that it is made of."""
SHARED = "of_positive"
"""Key of layout.json: the features of which a negative has its positive's value."""


class FlatFeatureProcessor(InProcessFeatureProcessor):
    """As its base, from the counts of samples in files."""

    def fit_flat(self, samples: FlatSamples, latest: int) -> None:
        """Fit, as `fit_splits`; the histories were cut to the `latest` behaviours."""
        self._fit(samples, None, latest)

    def _statistics_of(self, column: dict, train: FlatSamples, meta: None) -> dict:
        name = flat_column(column, train.roles)
        fitted = ("train", LEFT_OUT)
        if column["type"] == "sequence":
            return {"value_counts": _by_word(train.words[name], train.history_counts[name])}
        if column["type"] == "meta" and not column.get("remap", True):
            return {}
        counts = train.target_counts(name, (*fitted, "valid", "test") if column["type"] == "meta" else fitted)
        return {"value_counts": _by_word(train.words[name].cast(_dtype(column)), counts)}


def check_flat(columns: list[dict], labels: list[dict], roles: Roles, latest: int) -> None:
    """Raise UserError for what samples in files do not have.

    Args:
        columns: active, of one name each; labels: likewise.
        roles: of the log's columns.
        latest: to how many of the latest behaviours histories are cut.
    """
    if (names := [label["name"] for label in labels]) != ["label"]:
        raise UserError(f"data_loader: memory_mapped has one label, named label; label_col has {', '.join(names)}")
    for column in columns:
        flat_column(column, roles)
        if column["type"] == "sequence" and column.get("max_len", 0) < latest:
            raise UserError(
                f"column {column['name']}: data_loader: memory_mapped needs a max_len of {latest} or more, to which "
                f"the build cuts histories, but it is {column.get('max_len', 'missing')}"
            )


def flat_column(column: dict, roles: Roles) -> str:
    """Which of the log's columns a feature is made of.

    Raises:
        UserError: none.
    """
    source = source_of(column)
    known = {name: name for name in ("user_id", *roles.of_samples)}
    if column["type"] == "sequence":
        known = {history_of(name): name for name in (*roles.of_behaviours, *TOKENS)}
    if column["type"] not in ("categorical", "meta", "sequence") or source not in known:
        raise UserError(
            f"column {column['name']}: data_loader: memory_mapped has no {column['type']} column {source}; it has "
            f"{', '.join(known)}"
        )
    return known[source]


def encode_flat(processor: FlatFeatureProcessor, samples: FlatSamples, latest: int, folder: Path) -> None:
    """Fit, and write all that a data set's folder holds, the samples' own arrays but for those beside them.

    Args:
        processor: not fitted yet, its `data_dir` is `folder`.
        samples: in `folder`/encoded.
        latest: to how many of the latest behaviours histories were cut.
        folder: of the data set.
    """
    processor.fit_flat(samples, latest)
    encoder = processor.encoder()
    disk = samples.disk
    sources: dict[str, str] = {}
    tables: dict[str, list[str]] = {}
    for column in encoder.columns:
        name = column["name"]
        sources[name] = flat_column(column, samples.roles)
        ids = encoder.of_words(column, samples.words[sources[name]])
        np.save(disk.folder / f"ids_{name}.npy", ids)
        if column["type"] == "sequence":
            tables.setdefault(column.get("padding", "post"), []).append(name)
    layout = {
        "tables": list(tables.values()),
        "padding": {name: padding for padding, names in tables.items() for name in names},
        "truncated": {},
        COLUMN: sources,
        SHARED: [name for name, source in sources.items() if samples.is_shared(source)],
    }
    (disk.folder / LAYOUT).write_text(json.dumps(layout, indent=4))
    oov = {c["name"]: encoder.vocabularies[c["vocabulary"]]["__OOV__"] for c in encoder.columns if "vocabulary" in c}
    _save_catalogues(samples, layout, processor, oov, folder)
    for split in SPLITS:
        logging.info(f"Encoded {split}: {2 * len(samples.positives(split))} rows")


def _save_catalogues(
    samples: FlatSamples, layout: dict, processor: FlatFeatureProcessor, oov: dict[str, int], folder: Path
) -> None:
    """As `save_catalogues`, a part of the rows at a time."""
    (folder / FOLDER).mkdir(exist_ok=True)
    used = samples.disk.open("used", bool)
    for table in layout["tables"]:
        for fields in tuples_of(table, processor.feature_map.features):
            ids = [np.load(samples.disk.folder / f"ids_{name}.npy") for name in fields]
            codes = [samples.column(layout[COLUMN][name]) for name in fields]
            parts: list[list[np.ndarray]] = []
            for part in chunks(samples.rows, AT_ONCE):
                rows = np.flatnonzero(used[part]) + part.start
                behaviours = [of_word[of_row[rows]] for of_word, of_row in zip(ids, codes, strict=True)]
                known = (behaviours[0] != 0) & (behaviours[0] != oov[fields[0]])
                parts.append(_added_up([[*(each[known] for each in behaviours), np.ones(known.sum(), np.int64)]]))
                if sum(len(counts) for *_, counts in parts[1:]) > len(parts[0][-1]) + AT_ONCE:
                    parts = [_added_up(parts)]
            *columns, counts = _added_up(parts)
            arrays = dict(zip(fields, columns, strict=True))
            np.savez(folder / FOLDER / f"{fields[0]}.npz", allow_pickle=False, **arrays, count=counts)


def _added_up(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Columns whose last are counts -> those of the distinct rows, ascending, with the sums of their counts."""
    *columns, counts = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort(columns[::-1])
    columns = [column[order] for column in columns]
    first = np.append(True, np.any([np.diff(column) != 0 for column in columns], axis=0))[: len(order)]
    return [*(column[first] for column in columns), np.add.reduceat(counts[order], np.flatnonzero(first))]


def _by_word(words: pl.Series, counts: np.ndarray) -> dict:
    return {word: count for word, count in zip(words.to_list(), counts.tolist(), strict=True) if count}


def _dtype(column: dict) -> type[pl.DataType]:
    return {"str": pl.String, "int": pl.Int64, "float": pl.Float64}[column["dtype"]]


@dataclass(frozen=True)
class _Looked:
    """Ids of the rows of a column: (rows,), computed when they are taken."""

    ids: np.ndarray
    codes: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.ids[self.codes[rows]]


@dataclass(frozen=True)
class FlatSplit:
    """A split whose arrays are mapped from files.

    Sample s is, below the number of positives, positive s, else the negative of positive s less that number.

    Attributes:
        columns: feature that is no sequence -> ids by row of the log.
        sequences: sequence -> ids likewise.
        layout: layout.json.
        positives, negatives, length: see `samples.flat`.
    """

    columns: dict[str, _Looked]
    sequences: dict[str, Any]
    layout: dict
    positives: np.ndarray
    negatives: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return 2 * len(self.positives)

    @classmethod
    def load(cls, path: Path) -> "FlatSplit":
        """Map a split: `encoded/rows_<split>.bin`.

        Raises:
            UserError: a file is damaged.
        """
        disk, split = Disk(path.parent), path.stem.removeprefix("rows_")
        layout = load_layout(path.parent)
        if not isinstance(sources := layout.get(COLUMN), dict):
            raise damaged(path.parent / LAYOUT, f"{COLUMN} is {sources!r}")
        for name in (*sources, *sources.values()):
            require_name(f"column in {path.parent / LAYOUT}", name)  # files are called by it
        layout.setdefault(SHARED, [name for name, source in sources.items() if source == "user_id"])

        def mapped(name: str, dtype: DTypeLike) -> np.ndarray:
            try:
                return disk.open(name, dtype)
            except ValueError as error:
                raise damaged(disk.path(name), error) from error

        looked = {
            name: _Looked(
                read_array(path.parent / f"ids_{name}.npy"), mapped(source, np.int8 if source in TOKENS else np.int32)
            )
            for name, source in sources.items()
        }
        return cls(
            {name: column for name, column in looked.items() if name not in layout["padding"]},
            {name: column for name, column in looked.items() if name in layout["padding"]},
            layout,
            mapped(f"rows_{split}", np.int64),
            mapped(f"negative_{split}", np.int64),
            mapped("length", np.int32),
        )
