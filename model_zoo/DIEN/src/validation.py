"""Check the keywords of a model by the types that its constructor declares."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .kernels.backends import require


@dataclass(frozen=True)
class Help:
    """Meaning of a keyword, in its type alias."""

    text: str


@dataclass(frozen=True)
class Check:
    """A test of a value, and the words that describe what passes it."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`, except the bounds in `without`.

    Attributes:
        words: description of the range, for messages.
        low: lower bound.
        high: upper bound.
        without: bounds that are excluded.
    """

    words: str
    low: float
    high: float = math.inf
    without: tuple[float, ...] = ()

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return self.low <= value <= self.high and math.isfinite(value) and value not in self.without


def check_keywords(constructor: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Check arguments against the types of a constructor.

    Args:
        constructor: its parameters have types, `Annotated` with `Range`, `Check` and `Help`.
        values: parameter -> argument, the constructor's `locals()`; other names are ignored.

    Raises:
        ValueError: a value does not match its type; the message names the keyword, its value and what is allowed.
    """
    for keyword, kind in _types(constructor).items():
        if keyword in values and not fits(values[keyword], kind):
            raise ValueError(f"{keyword} = {values[keyword]!r} must be {words(kind)}")


@lru_cache
def _types(constructor: Callable[..., Any]) -> dict[str, Any]:
    return get_type_hints(constructor, include_extras=True)


def fits(value: Any, kind: Any) -> bool:
    """Return whether a value matches a type.

    A boolean is not a number, a whole number is a float, and a tuple is a list.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return fits(value, arguments[0]) and all(
            part.holds(value) for part in arguments[1:] if isinstance(part, (Range, Check))
        )
    if origin is Literal:
        return any(type(value) is type(choice) and value == choice for choice in arguments)
    if origin in (Union, UnionType):
        return any(fits(value, each) for each in arguments)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple) if origin is list else tuple) and all(
            fits(each, arguments[0]) for each in value
        )
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return kind is Any or isinstance(value, origin or kind)


def words(kind: Any) -> str:
    """Return what a type allows, in words."""
    plain = {int: "a whole number", float: "a number", bool: "True or False", str: "text", NoneType: "null"}
    if kind in plain:
        return plain[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return next((part.words for part in arguments[1:] if isinstance(part, (Range, Check))), words(arguments[0]))
    if origin is Literal:
        return _or(map(str, arguments))
    if origin in (Union, UnionType):
        return _or(map(words, arguments))
    if origin in (list, tuple):
        return f"a {origin.__name__}, each {words(arguments[0])}"
    return "a mapping"


def _or(parts: Iterable[str]) -> str:
    *first, last = dict.fromkeys(parts)
    return f"{', '.join(first)} or {last}" if first else last


def check_layers(keyword: str, value: Any, units: list[int]) -> None:
    """Raise ValueError if a list does not have one entry per layer."""
    if isinstance(value, (list, tuple)) and len(value) != len(units):
        raise ValueError(f"{keyword} = {value!r} must be one value, or one for each of the {len(units)} layers {units}")


def check_backend(recurrence_backend: str) -> None:
    """Raise ValueError if this machine lacks what the backend needs."""
    try:
        require(recurrence_backend)
    except RuntimeError as error:
        raise ValueError(f"recurrence_backend = {recurrence_backend!r}: {error}") from error
