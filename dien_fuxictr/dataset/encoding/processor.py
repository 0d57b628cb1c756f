"""The zoo's FeatureProcessor, fitted in this process instead of through Ray.

Statistics are counts of distinct tokens.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fuxictr.preprocess import FeatureProcessor

from dien_fuxictr.common.errors import UserError

from ..samples.ranges import coverage
from .encoder import Encoder
from .raw import RawHistory, RawSplit
from .reading import SplitReader, reserved, source_of
from .schema import active_columns, check_columns, label_columns


class InProcessFeatureProcessor(FeatureProcessor):
    """Processor that fits vocabularies and normalisers equal to the zoo's.

    It writes equal feature_map.json and feature_vocab.json. Only the gathering of statistics is replaced, and the file
    for encoding new rows: encoder.json, no pickle. Inactive columns are dropped first, so that they need not exist.
    `remap: False` works (the zoo never counts the tokens of such a column). A sequence counts once for every training
    row that contains it, however it is stored. A column in which no value is frequent enough takes the values of
    columns that share its embedding, as in a FuxiCTR checkout (the wheel's Tokenizer fails there).

    Args:
        **params: the zoo's keys: feature_cols, label_col, dataset_id, data_root, group_id, min_categr_count, sep.

    Raises:
        UserError: keys of a column contradict each other or are not supported.
    """

    def __init__(self, **params) -> None:
        labels = label_columns(params["label_col"])
        check_columns(active_columns(params["feature_cols"]), labels)
        super().__init__(**{**params, "label_col": labels})
        self.reader = SplitReader(self.feature_cols, self.label_cols, params.get("sep", ","), params.get("n_rows"))
        self._sep = params.get("sep", ",")
        self._min_categr_count = params.get("min_categr_count", 1)
        self._moments: dict[str, dict] = {}
        self._latest: int | None = None

    def _complete_feature_cols(self, feature_cols: list[dict]) -> list[dict]:
        return active_columns(feature_cols)

    def fit_splits(self, train: RawSplit, others: list[RawSplit]) -> None:
        """Fit on training rows, `meta` columns on all rows, and write three JSON files.

        The files are written into `data_dir`.

        Raises:
            UserError: a vocabulary has no value to learn from, a value is a reserved word, or `share_embedding` names
                no earlier column.
        """
        names = [column["name"] for column in self.feature_cols if column["type"] == "meta"]
        meta = pl.concat([split.frame.select(names) for split in (train, *others)]) if names else None
        self._fit(train, meta, train.latest)

    def _fit(self, train: Any, meta: Any, latest: int | None) -> None:
        self._latest = latest
        self.fit(train, meta, min_categr_count=self._min_categr_count)
        for column in self.feature_cols:
            tokenizer = self.processor_dict.get(column["name"] + "::tokenizer")
            if tokenizer is not None and tokenizer.vocab.keys() == {"__PAD__", "__OOV__"}:
                raise _nothing_to_learn(column)

    def _statistics_of(self, column: dict, train: Any, meta: Any) -> dict:
        """Return the statistics that the zoo fits a column by.

        These are value_counts and, for a sequence, max_len; or moments; or nothing.
        """
        name = column["name"]
        if column["type"] == "meta" and meta is not None and column.get("remap", True):
            return {"value_counts": _value_counts(meta[name])}
        if column["type"] == "categorical":
            return {"value_counts": _value_counts(train.frame[name])}
        if column["type"] == "sequence":
            return _history_statistics(train.histories[name])
        if column["type"] == "numeric" and "normalizer" in column:
            self._moments[name] = _moments(train.frame[name])
            return self._moments[name]
        return {}

    def _collect_statistics(self, train_ddf: Any, meta_ddf: Any = None) -> dict[str, dict]:
        statistics = {}
        for column in self.feature_cols:
            name = column["name"]
            if of_column := self._statistics_of(column, train_ddf, meta_ddf):
                statistics[name] = of_column
            if words := reserved(column) & of_column.get("value_counts", {}).keys():
                raise UserError(
                    f"a value is reserved for padding or unknown values: {source_of(column)} = {min(words)!r} in the "
                    "rows of the data set; rename it there"
                )
            if "value_counts" in of_column and not self._has_words(column, of_column):
                if not column.get("remap", True):
                    raise _nothing_to_learn(column)
                # The zoo's Tokenizer needs a first word; this word is dropped, and only the padding remains.
                statistics[name]["value_counts"] = {"__PAD__": self._threshold(column)}
        return statistics

    def _threshold(self, column: dict) -> int:
        """Return the number of occurrences that a value needs to get an id."""
        return 1 if column["type"] == "meta" else column.get("min_categr_count", self._min_categr_count)

    def _has_words(self, column: dict, statistics: dict) -> bool:
        counts, na_value = statistics["value_counts"], column.get("fill_na", "")
        return any(count >= self._threshold(column) and word != na_value for word, count in counts.items())

    def fit_categorical_col(self, col: dict, *args, **kwargs) -> None:
        """Fit a categorical column."""
        _fit_column(super().fit_categorical_col, col, *args, **kwargs)

    def fit_sequence_col(self, col: dict, *args, **kwargs) -> None:
        """Fit a sequence column."""
        _fit_column(super().fit_sequence_col, col, *args, **kwargs)

    def save_pickle(self, pickle_file: str) -> None:
        """Write encoder.json instead of the zoo's pickle."""
        for processor in self.processor_dict.values():
            # keys of pretrained embeddings are NumPy scalars, which JSON does not support
            if hasattr(processor, "vocab"):
                plain = {k.item() if isinstance(k, np.generic) else k: int(v) for k, v in processor.vocab.items()}
                processor.vocab.clear()
                processor.vocab.update(plain)
        self.encoder().save(Path(self.data_dir))

    def encoder(self) -> Encoder:
        """Return the fitted encoder."""
        vocabularies, owners, columns = {}, {}, []
        for column in self.feature_cols:
            column = dict(column)
            tokenizer = self.processor_dict.get(column["name"] + "::tokenizer")
            if tokenizer is not None:
                owner = owners.setdefault(id(tokenizer.vocab), column["name"])
                vocabularies[owner] = tokenizer.vocab
                column["vocabulary"] = owner
                column["max_len"] = tokenizer.max_len
            if column["name"] in self._moments:
                column["statistics"] = self._moments[column["name"]]
            columns.append(column)
        return Encoder(columns, self.label_cols, vocabularies, self._sep, self._latest)


def _nothing_to_learn(column: dict) -> UserError:
    return UserError(
        f"{column['name']}: no value of the training rows is frequent enough; choose a smaller min_categr_count"
    )


def _fit_column(fit: Callable, column: dict, *args, **kwargs) -> None:
    name = column["name"]
    try:
        fit(column, *args, **kwargs)
    except KeyError as error:
        raise UserError(
            f"share_embedding = {column['share_embedding']} of column {name} must be a column listed before {name}"
        ) from error
    except ValueError as error:
        raise UserError(f"{name}: remap: False needs integers: {error}") from error


def _value_counts(values: pl.Series) -> dict:
    counts = values.drop_nulls().value_counts(name="rows")
    return dict(zip(counts[values.name].to_list(), counts["rows"].to_list(), strict=True))


def _history_statistics(history: RawHistory) -> dict:
    tokens = history.tokens
    rows = coverage(history.start, history.length, len(tokens.codes))
    counts = np.bincount(tokens.codes, weights=rows, minlength=len(tokens.words)).astype(np.int64)
    seen = zip(tokens.words.to_list(), counts.tolist(), strict=True)
    longest = max(int(history.length.max()), 1)
    return {"value_counts": {word: count for word, count in seen if count}, "max_len": longest}


def _moments(values: pl.Series) -> dict:
    return {
        "min": values.min(),
        "max": values.max(),
        "mean": values.mean(),
        "std": values.std(ddof=0),
        "count": values.count(),
    }
