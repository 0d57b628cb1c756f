"""Types of keys, declared by their readers and checked by pydantic.

Readers are a model's constructor, the loaders, the trainer, a data set's entry and columns, a build and a sweep. Types
are strict: a bool is not a number and 'yes' is not a bool; only text that reads as a number counts as a number.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import UserError
from .suggestions import nearest, shown

CLOSE = 0.8
"""How like a known key an unknown one must be to be taken for misspelt."""
_HIGHEST = 2**63 - 1
"""Types that libraries accept as numbers."""


@dataclass(frozen=True)
class Help:
    """Meaning of a key, in its type."""

    text: str


@dataclass(frozen=True)
class Whole:
    """Range of whole numbers from `low` to `high`, inclusive, for the type of a key."""

    low: int
    high: int = _HIGHEST

    @property
    def words(self) -> str:
        """Return the description of what is allowed."""
        return (
            f"a whole number{f', {self.low} or more' if self.high == _HIGHEST else f' from {self.low} to {self.high}'}"
        )

    def holds(self, value: int) -> bool:
        """Return whether a number is one of them."""
        return self.low <= value <= self.high


def whole(low: int, high: int = _HIGHEST) -> Any:
    """Return the type of whole numbers from `low` to `high`, inclusive."""
    return Annotated[int, Whole(low, high)]


def described(kind: Any, description: str, *checks: Any) -> Any:
    """Return a type with more checks of pydantic, and its own description."""
    return Annotated[(kind, description, *checks)]


def must(holds: Callable[[Any], Any]) -> AfterValidator:
    """Return a check for `described`: a test of a value that has its type already."""

    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError
        return value

    return AfterValidator(check)


SIZE = whole(1, 2**16)
RATE = described(float, "a number from 0 to below 1", Field(ge=0, lt=1))
WEIGHT = described(float, "a finite number, 0 or more", Field(ge=0, allow_inf_nan=False))
POSITIVE = described(float, "a positive number", Field(gt=0, allow_inf_nan=False))


class Key(NamedTuple):
    """A key of a mapping: the type of its values, and what it means."""

    kind: Any
    help: str


class Contract:
    """The keys of one mapping and what each may hold.

    Args:
        kinds: key -> the types that its readers declare; a value must be of each.
        required: keys that must be there.
        others: keys that are known and not checked.
        changed: key of an earlier version -> the rest of the sentence that refuses it.
    """

    def __init__(
        self,
        kinds: Mapping[str, Iterable[Any]],
        required: Iterable[str] = (),
        others: Iterable[str] = (),
        changed: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._kinds = {key: tuple(types) for key, types in kinds.items()}
        self._required = tuple(required)
        self._changed = changed
        self._adapters: dict[str, list[TypeAdapter[Any]]] = {}
        self.keys = self._kinds.keys() | set(others)

    def check(self, given: dict[str, Any], where: Callable[[str], str]) -> list[str]:
        """Check a mapping; text of a number is replaced by the number, in place.

        Args:
            given: key -> value.
            where: key -> the place that it comes from.

        Returns:
            The unknown keys.

        Raises:
            UserError: a key is not text, of an earlier version, misspelt or missing, or its value is not allowed.
        """
        for key in given:
            if not isinstance(key, str):
                raise UserError(f"the key {key!r} in {where(key)} must be text")
            if key in self._changed:
                raise UserError(f"{key} in {where(key)} {self._changed[key]}")
        unknown = [key for key in given if key not in self.keys]
        for key in unknown:
            # batch_norm, a key of other models, is not a misspelt sync_batch_norm.
            known = [known for known in self.keys if not known.endswith(f"_{key}")]
            if close := nearest(key, known, cutoff=CLOSE):
                raise UserError(f"unknown key {key!r} in {where(key)}; did you mean {close[0]!r}?")
        for key in self._required:
            if given.get(key) is None:
                raise UserError(f"{key} is missing in {where(key)}")
        for key in given.keys() & self._kinds.keys():
            given[key] = self.checked(key, given[key], where(key))
        return unknown

    def checked(self, key: str, value: Any, where: str) -> Any:
        """Return the value; text that represents a number becomes the number.

        Raises:
            UserError: the value is not allowed.
        """
        kinds = self._kinds[key]
        if key not in self._adapters:
            self._adapters[key] = [_adapter(kind) for kind in kinds]
        for kind, adapter in zip(kinds, self._adapters[key], strict=True):
            try:
                result = adapter.validate_python(value)
            except ValidationError:
                raise UserError(f"{key} = {shown(value)} in {where} must be {allowed(kind)}") from None
            value = value if result == value else result
        return value


def allowed(kind: Any) -> str:
    """Return the description of a type."""
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text", NoneType: "null"}
    if kind in words:
        return words[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = (part if isinstance(part, str) else getattr(part, "words", None) for part in arguments[1:])
        return next(filter(None, found), allowed(arguments[0]))
    if origin is Literal:
        return _or(map(str, arguments))
    if origin in (Union, UnionType):
        return _or(map(allowed, arguments))
    if origin in (list, tuple):
        return f"a {origin.__name__}, each {allowed(arguments[0])}"
    return "a mapping" if origin is dict else str(getattr(kind, "__name__", kind))


def _or(words: Iterable[str]) -> str:
    *first, last = dict.fromkeys(words)
    return f"{', '.join(first)} or {last}" if first else last


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(_strict(kind), config=ConfigDict(strict=True, arbitrary_types_allowed=True))


def _strict(kind: Any) -> Any:
    """Return the type, in which text that reads as a number is accepted."""
    if kind in (int, float):
        return Annotated[kind, BeforeValidator(_number)]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        # Metadata have their own test and description, since a model's folder does not use pydantic.
        checks = (must(part.holds) if hasattr(part, "holds") else part for part in arguments[1:])
        return Annotated[(_strict(arguments[0]), *checks)]
    if origin in (Union, UnionType):
        return reduce(or_, map(_strict, arguments))
    if origin in (list, tuple, dict):
        generic: Any = origin
        return generic[tuple(part if part is ... else _strict(part) for part in arguments)]
    return kind


def _number(value: Any) -> Any:
    if isinstance(value, str):
        for number in (int, float):
            try:
                return number(value)
            except ValueError:
                continue
    return value
