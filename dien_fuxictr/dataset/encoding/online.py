"""Encode the raw values of one request, equal to `Encoder.encode_rows`.

An `Encoder` encodes whole columns, and rebuilds its look-up for each column. Here the look-ups are prepared once, so
that a value costs one look-up in a dict.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import polars as pl

from .encoder import Encoder, normaliser
from .reading import fill_of, reserved, source_of

Check = Callable[[str, list], list]
"""Check of a field's values; returns the values, none of them missing or of a wrong type."""
T = TypeVar("T")
_INT64 = range(-(2**63), 2**63)


class FieldError(ValueError):
    """Error of a request: a field has a value of the wrong kind."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field, self.problem = field, problem


class OnlineEncoder:
    """Look-ups of an encoder; nothing is kept between requests.

    Args:
        encoder: encoder of a data set; its meta columns, which no model reads, are left out.

    Attributes:
        scalars: field (the raw column) -> names of the columns that are read from it and have one value per row.
        sequences: field -> names of the sequence columns that are read from it.
        oov: column -> id of unknown values, for columns of ids.
        padding: column -> post | pre, for sequences.
        latest: to how many of their latest behaviours histories are cut first; None: to none.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.scalars: dict[str, list[str]] = {}
        self.sequences: dict[str, list[str]] = {}
        self.oov: dict[str, int] = {}
        self.padding: dict[str, str] = {}
        self._encode: dict[str, Callable[[str, list], np.ndarray]] = {}
        self._histories: dict[str, _History] = {}
        self._tables, self.latest = encoder.tables, encoder.latest
        self._fields: dict[str, str] = {}
        for column in encoder.columns:
            name, kind = column["name"], column["type"]
            if kind == "meta":
                continue
            field = self._fields[name] = source_of(column)
            (self.sequences if kind == "sequence" else self.scalars).setdefault(field, []).append(name)
            vocabulary = encoder.vocabularies[column["vocabulary"]] if "vocabulary" in column else {}
            if vocabulary:
                self.oov[name] = vocabulary["__OOV__"]
            if kind == "sequence":
                self._histories[name] = _History(column, vocabulary)
                self.padding[name] = column.get("padding", "post")
            elif kind == "numeric":
                self._encode[name] = partial(_numbers, _values_of(column), normaliser(column))
            elif kind == "embedding":
                self._encode[name] = partial(_vectors, column["pretrain_dim"])
            else:
                self._encode[name] = partial(_ids, _values_of(column), vocabulary, self.oov[name], reserved(column))

    def encode_scalars(self, field: str, values: list) -> dict[str, np.ndarray]:
        """Return column -> (N,) int64 ids or float32 numbers, (N, D) for embeddings.

        Args:
            field: a key of `scalars`.
            values: N raw values, None for a missing one.

        Raises:
            FieldError: a value has a different type than in the data set.
        """
        return {name: self._encode[name](field, values) for name in self.scalars[field]}

    def encode_histories(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return column -> (T,) int64 ids of the behaviours that the model sees.

        The oldest comes first. Columns that are aligned in the data set have equal T.

        Args:
            given: each field of `sequences` -> a list of tokens, None for a missing one, or text as in the data set, or
                None.

        Raises:
            FieldError: a value has a different type, or aligned sequences have unequal lengths.
        """
        tokens = {name: history.split(self._fields[name], given) for name, history in self._histories.items()}
        blank = {name: history.is_blank(tokens[name]) for name, history in self._histories.items()}
        if self.latest is not None:
            self._require_equal_lengths(tokens)
        ids = {name: history.ids(self._seen(history, tokens[name])) for name, history in self._histories.items()}
        self._require_equal_lengths(ids)
        for table in self._tables:
            if all(blank[name] for name in table):
                ids |= {name: ids[name][:0] for name in table}
        return ids

    def places(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the places of the encoded behaviours in the given lists.

        The result is column -> (T,) int64; the behaviour that fills a list without tokens has -1.

        Args:
            given: value that `encode_histories` has accepted.
        """
        lengths = {name: len(ids) for name, ids in self.encode_histories(given).items()}
        places = {name: history.places(given[self._fields[name]]) for name, history in self._histories.items()}
        return {
            name: np.array(self._seen(history, places[name])[: lengths[name]], dtype=np.int64)
            for name, history in self._histories.items()
        }

    def _seen(self, history: "_History", steps: list[T]) -> list[T]:
        """Return the steps that the model sees."""
        return history.cut(steps if self.latest is None else steps[max(len(steps) - self.latest, 0) :])

    def _require_equal_lengths(self, histories: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        for first, *others in self._tables:
            for name in others:
                here, there = len(histories[name]), len(histories[first])
                if here != there:
                    must = f"must have as many behaviours as {self._fields[first]} ({there}), has {here}"
                    raise FieldError(self._fields[name], f"{must}; they are aligned")


class _History:
    """Look-up of one sequence column.

    Args:
        column: a sequence column.
        vocabulary: its tokens -> ids.
    """

    def __init__(self, column: dict, vocabulary: dict[str, int]) -> None:
        self._splitter = column.get("splitter", "^")
        self._fill = str(column.get("fill_na", ""))
        self._empty = column.get("empty", "")
        self._no_behaviour = column.get("fill_na", "")
        self._max_len = column["max_len"]
        self._keeps_latest = column.get("padding", "post") == "pre"
        self._oov = vocabulary["__OOV__"]
        not_values = reserved(column)
        self._ids = {token: i for token, i in vocabulary.items() if token not in not_values}
        if isinstance(self._no_behaviour, str):
            self._ids[self._no_behaviour] = 0

    def split(self, field: str, given: Mapping[str, Any]) -> list[str]:
        value = given[field]
        if isinstance(value, list):
            tokens = [self._fill if token is None else token for token in value] if None in value else value
            tokens = _texts(field, tokens) or [""]
        elif value is None or isinstance(value, str):
            tokens = ((self._empty or self._fill) if value is None else value).split(self._splitter)
        else:
            raise FieldError(field, f"must be a list of tokens, is {_shown(value)}")
        return [self._empty] if tokens == [""] else tokens

    def is_blank(self, tokens: list[str]) -> bool:
        return isinstance(self._no_behaviour, str) and tokens == self._no_behaviour.split(self._splitter)

    def cut(self, steps: list[T]) -> list[T]:
        return steps[max(len(steps) - self._max_len, 0) :] if self._keeps_latest else steps[: self._max_len]

    def ids(self, tokens: list[str]) -> np.ndarray:
        return np.array([self._ids.get(token, self._oov) for token in tokens], dtype=np.int64)

    def places(self, value: list | None) -> list[int]:
        return list(range(len(value))) if value else [-1] * len(self.split("", {"": value}))


def _values_of(column: dict) -> Check:
    """Return a check of a field's values, which also fills missing ones."""
    fill = pl.select(fill_of(column)).item()
    missing = (None, "") if "empty" in column else (None,)
    check = {"str": _texts, "int": _whole, "float": _floats}[column["dtype"]]

    def values_of(field: str, values: list) -> list:
        if any(value in values for value in missing):
            values = [fill if value in missing else value for value in values]
        return check(field, values)

    return values_of


def _ids(of: Check, vocabulary: dict, oov: int, not_values: set, field: str, values: list) -> np.ndarray:
    ids = [oov if value in not_values else vocabulary.get(value, oov) for value in of(field, values)]
    return np.array(ids, dtype=np.int64)


def _numbers(of: Check, normalise: Callable[[np.ndarray], np.ndarray], field: str, values: list) -> np.ndarray:
    checked = of(field, values)
    if not checked:  # scikit-learn cannot normalise an empty array
        return np.zeros(0, np.float32)
    try:
        with np.errstate(over="ignore"):
            return _finite(field, normalise(np.array(checked)))
    except FieldError:
        raise
    except ValueError as error:
        raise FieldError(field, "must hold numbers that a float32 can have") from error


def _vectors(size: int, field: str, values: list) -> np.ndarray:
    for value in values:
        if not isinstance(value, list) or len(value) != size:
            raise FieldError(field, f"must be {size} numbers, is {_shown(value)}")
    rows = [_floats(field, value) for value in values]
    with np.errstate(over="ignore"):
        return _finite(field, np.array(rows, dtype=np.float32).reshape(len(values), size))


def _finite(field: str, numbers: np.ndarray) -> np.ndarray:
    if not np.isfinite(numbers).all():
        raise FieldError(field, "must hold numbers that a float32 can have")
    return numbers


def _texts(field: str, values: list) -> list[str]:
    kinds = set(map(type, values))
    if kinds <= {str}:
        return values
    _require(field, values, "text or whole numbers", str, int)
    return list(map(str, values))


def _whole(field: str, values: list) -> list[int]:
    _require(field, values, "whole numbers", int)
    if not all(value in _INT64 for value in values):
        raise FieldError(field, "holds a number that is too large")
    return values


def _floats(field: str, values: list) -> list[float]:
    _require(field, values, "numbers", int, float)
    try:
        return list(map(float, values))
    except OverflowError as error:
        raise FieldError(field, "holds a number that is too large") from error


def _require(field: str, values: list, wanted: str, *types: type) -> None:
    for value in values:
        if type(value) not in types:  # type(): a bool is an int in Python, but not a number in data
            raise FieldError(field, f"must hold {wanted}, has {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"{text[:36]} ..."
