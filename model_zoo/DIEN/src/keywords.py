"""Checks of keywords, as errors that name the keyword, its value and what is allowed."""

import math
from typing import Any, Literal, get_args

from .kernels.backends import BACKENDS, require
from .kernels.reference import GRU_TYPES
from .layers.activations import activation

AugruSign = Literal["paper", "code"]


def check_choice(keyword: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{keyword}={value!r} is unknown; allowed: {', '.join(map(str, allowed))}")


def evolution_kind(gru_type: str, augru_sign: str) -> str:
    """The second layer's kind, as in `attentional_gru.attentional_gru`; only AUGRU has two signs."""
    check_choice("gru_type", gru_type, GRU_TYPES)
    check_choice("augru_sign", augru_sign, get_args(AugruSign))
    return "AUGRU-code" if (gru_type, augru_sign) == ("AUGRU", "code") else gru_type


def check_sizes(**sizes: Any) -> None:
    """Each is a whole number, or a list of them, 1 or more."""
    for keyword, value in sizes.items():
        for size in value if isinstance(value, (list, tuple)) else [value]:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{keyword}={value!r}: {size!r} is not allowed; a size is a whole number, 1 or more")


def check_weight(**weights: Any) -> None:
    """Each is the weight of a loss."""
    for keyword, value in weights.items():
        if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
            raise ValueError(f"{keyword}={value!r} must be a finite number, 0 or more")


def check_activations(keyword: str, value: str | list[str], units: list[int] | None = None) -> None:
    """Each is known; with `units` there is one for all layers, or one each."""
    if units is not None and isinstance(value, list) and len(value) != len(units):
        raise ValueError(f"{keyword}={value!r} has {len(value)} entries for {len(units)} layers, {units}")
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
