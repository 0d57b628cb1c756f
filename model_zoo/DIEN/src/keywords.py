"""Checks of keywords, as errors that name the keyword, its value and what is allowed."""

from typing import Any

from .layers.activations import activation
from .layers.backends import BACKENDS, require


def check_choice(keyword: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{keyword}={value!r} is unknown; allowed: {', '.join(map(str, allowed))}")


def check_sizes(**sizes: Any) -> None:
    """Each is a whole number, or a list of them, 1 or more."""
    for keyword, value in sizes.items():
        for size in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{keyword}={value!r}: {size!r} is not allowed; a size is a whole number, 1 or more")


def check_activations(keyword: str, value: str | list[str]) -> None:
    for name in [value] if isinstance(value, str) else value:
        try:
            activation(name, 1)
        except ValueError as error:
            raise ValueError(f"{keyword}={value!r}: {error}") from error


def check_backend(recurrence_backend: str) -> None:
    """It is known, and this machine has what it needs."""
    check_choice("recurrence_backend", recurrence_backend, ("auto", *BACKENDS))
    try:
        require(recurrence_backend)
    except RuntimeError as error:
        raise ValueError(f"recurrence_backend={recurrence_backend!r}: {error}") from error


def check_rates(**rates: Any) -> None:
    """Each is a dropout rate."""
    for keyword, value in rates.items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
            raise ValueError(f"{keyword}={value!r} is not allowed; a rate is a number from 0 to below 1")
