"""Search space of a tuner file: choices per key, or for TPE `{low, high, log}`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError

_KEYS = ("low", "high", "log")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole numbers where both are.

    Attributes:
        low, high: the ends.
        log: drawn by their logarithm.
    """

    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Return whether only whole numbers are in it."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def examples(self) -> list[Any]:
        """Return the ends."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choices:
    """Values to choose from.

    Attributes:
        examples: all of them.
    """

    examples: list[Any]


Space = dict[str, Range | Choices]


def read_space(settings: dict[str, Any], file: Path) -> Space:
    """Read `tuner_space`: a list of choices, a range, or a single value per key.

    Raises:
        UserError: no choice, or a range that is none.
    """
    return {str(key): _read(str(key), value, file) for key, value in settings.items()}


def _read(key: str, value: Any, file: Path) -> Range | Choices:
    if isinstance(value, list):
        if not value:
            raise UserError(f"{file}: {key} in tuner_space has no value")
        return Choices(value)
    if not isinstance(value, dict) or not value.keys() & set(_KEYS):
        return Choices([value])

    def refuse(reason: str) -> UserError:
        return UserError(f"{file}: {key} in tuner_space is not a valid range, {reason}: {value}")

    if unknown := [str(name) for name in value if name not in _KEYS]:
        raise refuse(f"{', '.join(unknown)} is unknown; allowed are low, high and log")
    for end in ("low", "high"):
        if isinstance(value.get(end), bool) or not isinstance(value.get(end), (int, float)):
            raise refuse(f"{end} must be a number")
    if not isinstance(value.get("log", False), bool):
        raise refuse("log must be True or False")
    found = Range(**value)
    if not -float("inf") < found.low < found.high < float("inf"):
        raise refuse("low must be less than high")
    if found.log and found.low <= 0:
        raise refuse("log needs a low above 0")
    return found
