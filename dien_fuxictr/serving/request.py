"""A request and its scores: one user, and candidates by columns of raw values.

    {"user": {"item_history": ["B01", "B02"], "cate_history": ["Books", "Games"], "hour": 17},
     "candidates": {"item_id": ["B03", "B04"], "cate_id": ["Books", "Games"]}}

Values are raw as in training. Sequences belong to the user. A feature with a single value is in `user`, once for all
candidates, or in `candidates`, a list with one value per candidate. A missing value is null. Fields of an item that the
bundle's catalogue knows, such as its category, may be left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import filterfalse
from typing import Any, cast

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.encoding.online import FieldError, OnlineEncoder
from dien_fuxictr.dataset.encoding.reading import source_of

from .bundle import Bundle
from .settings import Limits

USER, CANDIDATES = "user", "candidates"
PADDING = 0
"""Id of a missing value in a sequence, in every vocabulary."""


class TooMany(FieldError):
    """A field with more than the limits admit."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the model.

    Attributes:
        user: column -> (1,) or, for sequences, (1, T).
        candidates: column -> (N,).
        count: N.
        ids: column -> number of ids that were looked up.
        unknown: column -> number of ids that are out of vocabulary or missing.
        are_unknown: column with unknown ids -> which ids are, (1,), (N,) or (T,) bool.
    """

    user: dict[str, np.ndarray]
    candidates: dict[str, np.ndarray]
    count: int
    ids: dict[str, int]
    unknown: dict[str, int]
    are_unknown: dict[str, np.ndarray]


Scorer = Callable[[Inputs], np.ndarray]


class RequestReader:
    """Reads requests to the model of a bundle.

    Args:
        bundle: with the encoder of its data set.
        limits: what is more is refused.
    """

    def __init__(self, bundle: Bundle, limits: Limits) -> None:
        self.online = OnlineEncoder(bundle.encoder)
        self._limits, self._catalogue, self._columns = limits, bundle.catalogue, bundle.encoder.columns
        field_of = {column["name"]: source_of(column) for column in bundle.encoder.columns}
        self._aligned = [
            {field: [name for name in table if field_of[name] == field] for field in map(field_of.__getitem__, table)}
            for table in bundle.encoder.tables
        ]
        self._features = bundle.model.feature_map.features
        self._trim = bundle.params.get("trim_histories", True)
        self._known_fields = self.online.scalars.keys() | self.online.sequences.keys()
        self._admitted = self._known_fields.union(n for n, spec in self._features.items() if spec["type"] == "meta")

    def within(self, limits: Limits) -> "RequestReader":
        """Return a reader of other limits that shares the look-ups of this one."""
        other = copy(self)
        other._limits = limits
        return other

    def fields(self) -> dict[str, str]:
        """Return what a request may hold: field -> what its values are."""
        kinds: dict[str, set[str]] = {name: {"not read"} for name in self._admitted - self._known_fields}
        for column in self._columns:
            kinds.setdefault(source_of(column), set()).add(_kind(column))
        return {name: " and ".join(sorted(kind)) for name, kind in kinds.items()}

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a request.

        It has the names, types and lengths that `read` checks. What only the whole request shows is in words: which
        lists have one length, and which fields may be left out.
        """
        parts: dict[str, dict[str, Any]] = {USER: {}, CANDIDATES: {}}
        for field in sorted(self._admitted - self._known_fields):
            parts[USER][field] = parts[CANDIDATES][field] = {"description": "Not read."}
        for column in self._columns:
            field = source_of(column)
            if field in self.online.sequences:
                parts[USER][field] = self._schema_of_history(column)
            elif field in self.online.scalars:
                one = _value_schema(column)
                for part, value in ((USER, one), (CANDIDATES, _list_of(one, self._limits.candidates))):
                    earlier = parts[part].get(field, value)
                    parts[part][field] = value if earlier == value else {"allOf": [earlier, value]}
        required = [field for field in self.online.sequences if field not in self._catalogue.fields]
        optional = [field for field in self.online.scalars if field in self._catalogue.fields]
        texts = ["Lists have one value per candidate, all of one length.", f"Each field is here or in {USER}."]
        if optional:
            texts.append(f"May be left out of both, as the bundle knows the values: {', '.join(optional)}.")
        user = {"description": "A list of behaviours per sequence, and fields that have one value for all candidates."}
        shared = {"type": "object", "additionalProperties": False}
        return shared | {
            "properties": {
                USER: shared | user | {"properties": parts[USER], "required": required},
                CANDIDATES: shared
                | {"description": " ".join(texts), "properties": parts[CANDIDATES], "minProperties": 1},
            },
            "required": [USER, CANDIDATES],
        }

    def _schema_of_history(self, column: dict) -> dict[str, Any]:
        field, most, latest = source_of(column), column["max_len"], self.online.latest
        keeps_last = column.get("padding", "post") == "pre" or (latest is not None and latest <= most)
        most = most if latest is None else min(most, latest)
        texts = [f"The oldest behaviour first; the model reads the {'last' if keeps_last else 'first'} {most}."]
        for other in (other for fields in self._aligned if field in fields for other in fields if other != field):
            texts.append(f"Of the length of {other}.")
        if field in self._catalogue.fields:
            texts.append("May be left out, as the bundle knows the values.")
        value = _list_of(_value_schema({"type": "categorical", "dtype": "str"}), self._limits.behaviours)
        return value | {"type": ["array", "null"], "description": " ".join(texts)}

    def read(self, request: Any) -> Inputs:
        """Return the model's inputs.

        Raises:
            FieldError: a field is wrong; the message names it.
        """
        user, candidates, count = self._parts(request)
        arrays: dict[str, dict[str, np.ndarray]] = {USER: {}, CANDIDATES: {}}
        for part, values in ((USER, {name: [value] for name, value in user.items()}), (CANDIDATES, candidates)):
            with _within(part):
                for field in filter(self.online.scalars.__contains__, values):
                    arrays[part] |= self.online.encode_scalars(field, values[field])
        with _within(USER):
            histories = self.online.encode_histories(user)
        ids, unknown, are_unknown = {}, {}, {}
        for name, values in (arrays[USER] | arrays[CANDIDATES] | histories).items():
            if name in self.online.oov:
                is_unknown = (values == self.online.oov[name]) | (values == PADDING)
                ids[name], unknown[name] = len(values), int(np.count_nonzero(is_unknown))
                if unknown[name]:
                    are_unknown[name] = is_unknown
        arrays[USER] |= {name: self._padded(name, values) for name, values in histories.items()}
        return Inputs(arrays[USER], arrays[CANDIDATES], count, ids, unknown, are_unknown)

    def places(self, request: Any) -> dict[str, np.ndarray]:
        """Return the places of the sequences' steps in the request's lists.

        The result is column -> (1, T), padded like the sequences.

        Args:
            request: a request that `read` has accepted.
        """
        user, _, _ = self._parts(request)
        return {name: self._padded(name, places) for name, places in self.online.places(user).items()}

    def unknown_fields(self, request: Any, inputs: Inputs) -> dict[str, Any]:
        """Return the number of fields in each part of a request that are unknown.

        Args:
            request: which `read` has taken.
            inputs: what it has returned.

        Returns:
            `user`: of the user's features of one value. `candidates`: of each candidate. `behaviours`: first field of
            the sequences that are aligned -> of each behaviour in the request's lists; 0 of one that the model does not
            see.
        """
        online = self.online
        of_user, of_candidates = 0, np.zeros(inputs.count, dtype=np.uint8)
        for columns in online.scalars.values() if inputs.are_unknown else ():
            masks = [inputs.are_unknown[name] for name in columns if name in inputs.are_unknown]
            if masks and columns[0] in inputs.candidates:
                of_candidates += np.logical_or.reduce(masks)
            elif masks:
                of_user += int(np.any(masks))
        behaviours, places = {}, None
        for fields in self._aligned:
            counts = np.zeros(max(len(request[USER].get(field) or ()) for field in fields), dtype=np.uint8)
            for columns in fields.values() if inputs.are_unknown else ():
                is_unknown = np.zeros(len(counts), dtype=bool)
                for name in filter(inputs.are_unknown.__contains__, columns):
                    places = places or online.places(self._parts(request)[0])
                    seen = places[name][inputs.are_unknown[name]]
                    is_unknown[seen[seen >= 0]] = True
                counts += is_unknown
            behaviours[next(iter(fields))] = counts
        return {"user": of_user, "candidates": of_candidates, "behaviours": behaviours}

    def _parts(self, request: Any) -> tuple[dict[str, Any], dict[str, list], int]:
        if not isinstance(request, dict):
            raise FieldError("request", f"must be an object with {USER} and {CANDIDATES}")
        for part in (USER, CANDIDATES):
            if not isinstance(request.get(part), dict):
                raise FieldError(part, "is missing" if part not in request else "must be an object")
        for name in filterfalse((USER, CANDIDATES).__contains__, request):
            raise FieldError(name, f"is unknown; a request has {USER} and {CANDIDATES}")
        user, candidates = (self._known(part, request[part]) for part in (USER, CANDIDATES))
        self._catalogue.complete({USER: user, CANDIDATES: candidates})
        for field in self.online.sequences:
            self._check_history(field, user, candidates)
        count = self._count(candidates)
        for field in self.online.scalars:
            if field in user and field in candidates:
                raise FieldError(f"{USER}.{field}", f"must not be in {CANDIDATES} too")
            if field not in user and field not in candidates:
                raise FieldError(
                    f"{CANDIDATES}.{field}", f"is missing; it must be here or in {USER}, with null for a missing value"
                )
        return user, candidates, count

    def _known(self, part: str, values: dict[str, Any]) -> dict[str, Any]:
        known = self._known_fields
        for name in filterfalse(self._admitted.__contains__, values):
            near = nearest(name, known)
            listed = f"did you mean {', '.join(near)}?" if near else f"the model has {', '.join(sorted(known))}"
            raise FieldError(f"{part}.{name}", f"is unknown; {listed}")
        return {name: value for name, value in values.items() if name in known}

    def _check_history(self, field: str, user: dict[str, Any], candidates: dict[str, Any]) -> None:
        if field in candidates:
            raise FieldError(f"{CANDIDATES}.{field}", f"is a sequence; it must be in {USER}")
        if field not in user:
            raise FieldError(f"{USER}.{field}", "is missing; null or an empty list says that there are no behaviours")
        value = user[field]
        if value is not None and not isinstance(value, list):
            raise FieldError(f"{USER}.{field}", "must be a list or null")
        if value and len(value) > self._limits.behaviours:
            raise TooMany(
                f"{USER}.{field}", f"must have at most {self._limits.behaviours} behaviours, has {len(value)}"
            )

    def _count(self, candidates: dict[str, Any]) -> int:
        first = next(iter(candidates), None)
        if first is None:
            raise FieldError(CANDIDATES, f"must not be empty; it needs one or more of {', '.join(self.online.scalars)}")
        for name, values in candidates.items():
            if not isinstance(values, list):
                raise FieldError(f"{CANDIDATES}.{name}", "must be a list, one value per candidate")
            if len(values) != len(candidates[first]):
                raise FieldError(
                    f"{CANDIDATES}.{name}",
                    f"must have as many values as {first} ({len(candidates[first])}), has {len(values)}",
                )
        count = len(candidates[first])
        if count > self._limits.candidates:
            raise TooMany(
                f"{CANDIDATES}.{first}", f"must have at most {self._limits.candidates} candidates, has {count}"
            )
        return count

    def _padded(self, name: str, ids: np.ndarray) -> np.ndarray:
        """Return the ids padded like the loader's batch of one row, (1, T).

        T is at least 1, or max_len if histories are not trimmed.
        """
        width = max(len(ids), 1) if self._trim else self._features[name]["max_len"]
        padded = np.zeros((1, width), dtype=np.int64)
        start = width - len(ids) if self.online.padding[name] == "pre" else 0
        padded[0, start : start + len(ids)] = ids
        return padded


def scorer_of(model: BaseModel) -> Scorer:
    """Return the function that scores N candidates, (N,) float32.

    It is the model's `scorer`, or its forward pass on N rows.

    Args:
        model: a model in evaluation mode.
    """
    if hasattr(model, "scorer"):
        score = cast(Any, model).scorer()
        return lambda inputs: score(inputs.user, inputs.candidates, inputs.count)
    return lambda inputs: _of_any(model, inputs)


@torch.inference_mode()
def _of_any(model: BaseModel, inputs: Inputs) -> np.ndarray:
    if not inputs.count:
        return np.zeros(0, np.float32)
    user, candidates = (
        {name: torch.from_numpy(values).to(model.device) for name, values in part.items()}
        for part in (inputs.user, inputs.candidates)
    )
    repeated = {name: values.expand(inputs.count, *values.shape[1:]) for name, values in user.items()}
    return model.forward({**repeated, **candidates})["y_pred"].reshape(-1).cpu().numpy()


def _kind(column: dict) -> str:
    if column["type"] == "sequence":
        return "a sequence"
    if column["type"] == "embedding":
        return f"{column['pretrain_dim']} numbers"
    return {"str": "text", "int": "a whole number", "float": "a number"}[column["dtype"]]


def _value_schema(column: dict) -> dict[str, Any]:
    """Return the JSON Schema of one value."""
    if column["type"] == "embedding":
        size = column["pretrain_dim"]
        return _list_of({"type": "number"}, size) | {"minItems": size}
    types = {"str": ["string", "integer"], "int": ["integer"], "float": ["number"]}[column["dtype"]]
    return {"type": [*types, "null"]}


def _list_of(value: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": value, "maxItems": most}


@contextmanager
def _within(part: str) -> Iterator[None]:
    """Add the part of the request to the error of a field."""
    try:
        yield
    except FieldError as error:
        raise type(error)(f"{part}.{error.field}", error.problem) from error
