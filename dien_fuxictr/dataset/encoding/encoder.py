"""Encoder of raw rows to ids, with fitted vocabularies that are stored as JSON."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import polars as pl
from fuxictr.preprocess.normalizer import Normalizer

from dien_fuxictr.common.errors import UserError

from ..samples.amazon import UNKNOWN
from ..samples.ranges import coverage
from ..samples.samples import filled_in, latest_kept
from .encoded import LAYOUT, EncodedHistory, EncodedSplit, assemble, require_equal_lengths
from .raw import RawHistory, RawSplit, Tokens
from .reading import SplitReader, form_of, reserved, source_of
from .stored import read_json

FILE_NAME = "encoder.json"
FILES = (FILE_NAME, f"encoded/{LAYOUT}")
"""Files that `Encoder.load` reads in a data set's folder."""
PARAMS = ("use_features", "sep")
"""Parameters of an experiment that `Encoder.load` reads."""
_FORMAT = 1
_KEPT = (
    "name",
    "type",
    "dtype",
    "fill_na",
    "empty",
    "preprocess",
    "splitter",
    "padding",
    "max_len",
    "vocabulary",
    "normalizer",
    "statistics",
    "pretrain_dim",
)


class Encoder:
    """Encoder equal to the zoo's FeatureProcessor.transform, with distinct look-ups.

    Each distinct token is looked up once.

    Args:
        columns: active feature columns; with `vocabulary` (a key of `vocabularies`), `max_len` as fitted, and
            `statistics` (min, max, mean, std, count) if a normalizer needs them; with `empty` if the samples have this
            word for an empty value.
        labels: label columns.
        vocabularies: token -> id, with the zoo's `__PAD__` (0) and `__OOV__`.
        sep: separator of CSV files.
        latest: number of most recent behaviours that the training rows' histories were cut to before encoding; new rows
            are cut to it, too. None if unknown.

    Attributes:
        tables: sequence columns that are aligned in the data set; only set for a loaded encoder.
        unseen: column -> number of values that `encode_rows` mapped to OOV. Meta columns, which no model reads, are not
            counted, and a behaviour that several rows share counts once.
        truncated: column -> number of rows that lost their newest behaviours, because post-padding keeps the oldest
            max_len.
    """

    def __init__(
        self,
        columns: list[dict],
        labels: list[dict],
        vocabularies: dict[str, dict],
        sep: str = ",",
        latest: int | None = None,
    ) -> None:
        self.columns = [{key: column[key] for key in _KEPT if key in column} for column in columns]
        self.labels = labels
        self.vocabularies = vocabularies
        self.unseen: dict[str, int] = {}
        self.truncated: dict[str, int] = {}
        self._sep = sep
        self.latest = latest
        self.tables: list[list[str]] = []
        # Behaviours -> their ids in each column, for other splits that share them; released together with the raw
        # splits.
        self._stored: WeakKeyDictionary[Tokens, dict[str, np.ndarray]] = WeakKeyDictionary()

    def save(self, data_dir: Path) -> None:
        """Write encoder.json."""
        vocabularies = {
            name: {"tokens": list(vocabulary), "ids": list(vocabulary.values())}
            for name, vocabulary in self.vocabularies.items()
        }
        state = {
            "format": _FORMAT,
            "sep": self._sep,
            "latest": self.latest,
            "columns": self.columns,
            "labels": self.labels,
            "vocabularies": vocabularies,
        }
        (Path(data_dir) / FILE_NAME).write_text(json.dumps(state), encoding="utf-8")

    @classmethod
    def load(cls, data_dir: str | Path, params: dict) -> "Encoder":
        """Read the encoder of a built data set.

        Args:
            data_dir: data_root/dataset_id.
            params: settings of the experiment; `use_features` restricts the columns, `sep` overrides the separator.

        Raises:
            UserError: no encoder.json is there, or it is damaged or of another format.
        """
        path = Path(data_dir) / FILE_NAME
        if not path.is_file():
            raise UserError(
                f"{path} does not exist: only data sets built in-process (data_loader: in_memory) can encode new rows"
            )

        def read(state: dict) -> tuple[list[dict], list[dict], dict[str, dict], str, int | None]:
            if state["format"] != _FORMAT:
                raise UserError(
                    f"format = {state['format']} in {path} must be {_FORMAT}; --rebuild builds the data set again"
                )
            vocabularies = {
                name: dict(zip(pairs["tokens"], pairs["ids"], strict=True))
                for name, pairs in state["vocabularies"].items()
            }
            for column in state["columns"]:
                if "vocabulary" in column and not vocabularies[column["vocabulary"]]:
                    raise ValueError(f"the vocabulary of {column['name']} is empty")
            # An older set does not store it; the samples that it was built from do, if its entry has a build section.
            latest = state["latest"] if "latest" in state else latest_kept(Path(data_dir) / "samples")
            filled = filled_in(Path(data_dir) / "samples")
            for column in state["columns"]:
                if column["type"] != "meta" and column["dtype"] == "str" and source_of(column) in filled:
                    column["empty"] = UNKNOWN
            return state["columns"], state["labels"], vocabularies, state["sep"], latest

        columns, labels, vocabularies, sep, latest = read_json(path, read)
        used = params.get("use_features") or [column["name"] for column in columns]
        encoder = cls([c for c in columns if c["name"] in used], labels, vocabularies, params.get("sep", sep), latest)
        tables = read_json(Path(data_dir) / "encoded" / LAYOUT, lambda layout: layout["tables"])
        kept = [[name for name in table if name in used] for table in tables]
        encoder.tables = [table for table in kept if table]
        return encoder

    def encode_rows(self, rows: Path | pl.DataFrame) -> EncodedSplit:
        """Encode new rows in their order, for prediction.

        Labels are not read, and meta columns may be missing. Histories are cut like those of the training rows: to the
        most recent behaviours by the number in `latest`, then to max_len by the zoo's rule (`padding: post` keeps the
        oldest).

        Args:
            rows: a frame, or a file of one of the `ROW_FILES`; in Parquet histories are strings, lists, or those of a
                samples folder.

        Raises:
            UserError: see `SplitReader.read`; or sequences that are aligned in the data set have unequal lengths in a
                row.
        """
        optional = {column["name"] for column in self.columns if column["type"] == "meta"}
        reader = SplitReader(self.columns, [], self._sep)
        if isinstance(rows, pl.DataFrame):
            raw = reader.read_frame(rows, optional)
        else:
            raw = reader.read(rows, form_of(rows), optional)
        if self.latest is not None:
            for table in self.tables:
                require_equal_lengths(raw.histories, table, raw.path)
            raw.histories = {name: history.last(self.latest) for name, history in raw.histories.items()}
        self.unseen, self.truncated = {}, {}
        columns, histories = self.encode(raw)
        warn_truncated(self.truncated)
        return assemble(columns, histories, self.tables, raw.path)

    def encode(self, raw: RawSplit) -> tuple[dict[str, np.ndarray], dict[str, EncodedHistory]]:
        """Encode one split: its columns, and its sequences cut to max_len.

        Updates `unseen` and `truncated`. Stored behaviours that several splits share are encoded once.

        Raises:
            UserError: a meta column with `remap: False` has values that are not integers, or the rows of an embedding
                column differ in length.
        """
        frame = raw.frame
        columns = {c["name"]: frame[c["name"]].cast(pl.Float32).to_numpy() for c in self.labels if c["name"] in frame}
        histories = {}
        for column in self.columns:
            name = column["name"]
            if column["type"] == "sequence":
                histories[name] = self._encode_history(column, raw.histories[name])
            elif name in frame:
                columns[name] = self.of_values(column, frame[name])
                if column["type"] == "categorical":
                    self._count_unseen(column, columns[name])
        return columns, histories

    def of_words(self, column: dict, words: pl.Series) -> np.ndarray:
        """Return the ids (V,) of the words of a sequence column.

        Unseen words are not counted.
        """
        return self._ids_of_tokens(column, Tokens(words, np.arange(len(words))))

    def of_values(self, column: dict, values: pl.Series) -> np.ndarray:
        """Return the encoded values (V,) of a column that is not a sequence.

        Unseen values are not counted.
        """
        if column["type"] == "embedding":
            return _matrix(column, values)
        if column["type"] == "numeric":
            return normaliser(column)(values.to_numpy())
        if "vocabulary" not in column:
            return _integers(column, values)
        return self._ids(column, values)

    def _encode_history(self, column: dict, raw: RawHistory) -> EncodedHistory:
        name, max_len, padding = column["name"], column["max_len"], column.get("padding", "post")
        stored = self._stored.setdefault(raw.tokens, {})
        if name not in stored:
            stored[name] = self._ids_of_tokens(column, raw.tokens)
        ids = stored[name]
        start, length = raw.start, np.minimum(raw.length, max_len)
        if padding == "pre":
            start = start + raw.length - length
        else:
            self.truncated[name] = self.truncated.get(name, 0) + int(np.count_nonzero(raw.length > max_len))
        rows = coverage(start, length, len(ids))
        self._count_unseen(column, ids[rows > 0])
        if np.any(raw.length > max_len) and rows.max() == 1:
            # Without shared behaviours, only those that are kept are stored, so that columns of unequal raw lengths
            # align again.
            ids, start = ids[rows > 0], np.cumsum(length) - length
        return EncodedHistory(ids, start, length, raw.blank, padding)

    def _ids_of_tokens(self, column: dict, tokens: Tokens) -> np.ndarray:
        """Return the ids of stored behaviours, (S,) int32.

        The value that means "no behaviour" becomes padding.
        """
        of_words = self._ids(column, tokens.words)
        na_value = column.get("fill_na", "")
        if isinstance(na_value, str):
            of_words = np.where((tokens.words == na_value).to_numpy(), np.int32(0), of_words)
        return of_words[tokens.codes]

    def _ids(self, column: dict, values: pl.Series) -> np.ndarray:
        """Return the ids of scalar values, (N,) int32."""
        vocabulary = self.vocabularies[column["vocabulary"]]
        not_values = reserved(column)
        pairs = {token: i for token, i in vocabulary.items() if token not in not_values}
        tokens = pl.Series(list(pairs), dtype=values.dtype)
        ids = list(pairs.values())
        return values.replace_strict(tokens, ids, default=vocabulary["__OOV__"], return_dtype=pl.Int32).to_numpy()

    def _count_unseen(self, column: dict, ids: np.ndarray) -> None:
        oov = self.vocabularies[column["vocabulary"]]["__OOV__"]
        count = int(np.count_nonzero(ids == oov))
        self.unseen[column["name"]] = self.unseen.get(column["name"], 0) + count


def warn_truncated(truncated: dict[str, int]) -> None:
    """Log once how many rows lost their newest behaviours to max_len."""
    dropped = [f"{name} ({rows} rows)" for name, rows in truncated.items() if rows]
    if dropped:
        logging.warning(
            "max_len with padding: post keeps the oldest behaviours and drops the newest: "
            + ", ".join(dropped)
            + "; padding: pre for these columns in feature_cols keeps the newest"
        )


def normaliser(column: dict) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that normalises a numeric column's numbers (N,) to float32."""
    if "normalizer" not in column:
        return lambda numbers: numbers.astype(np.float32)
    normalizer, fitted = Normalizer(column["normalizer"]), column["statistics"]
    normalizer.fit_from_stats(fitted["min"], fitted["max"], fitted["mean"], fitted["std"], fitted["count"])
    return lambda numbers: normalizer.transform(numbers).astype(np.float32)


def _integers(column: dict, values: pl.Series) -> np.ndarray:
    try:
        return values.cast(pl.Int64).to_numpy()
    except pl.exceptions.PolarsError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"column {column['name']}: remap: False needs integers: {reason}") from error


def _matrix(column: dict, values: pl.Series) -> np.ndarray:
    lengths = values.list.len()
    expected = column.get("pretrain_dim", lengths[0])
    wrong = (lengths != expected).arg_true()
    if len(wrong):
        row = wrong[0]
        raise UserError(f"column {column['name']}: row {row + 1} has {lengths[row]} numbers; must be {expected}")
    return values.explode(empty_as_null=False).to_numpy().reshape(len(values), expected)
