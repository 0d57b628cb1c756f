"""Names that users give: what they may be, and what may have been meant."""

import difflib
from collections.abc import Iterable
from typing import Any

from .errors import UserError

_SHOWN = 80


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """Return up to three known names close to `name`, the closest first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)


def require_name(what: str, name: str) -> str:
    """Return a name unchanged if it can be used in file names.

    Args:
        what: the kind of thing, for the message.
        name: the name.

    Raises:
        UserError: it is empty, a path, or contains characters that file names cannot have.
    """
    if name in ("", ".", "..") or any(character in "/\\" or not character.isprintable() for character in name):
        raise UserError(f"{what} {name!r} must be a name without / or \\; files have this name")
    return name


def shown(value: Any) -> str:
    """Return a value as messages show it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
