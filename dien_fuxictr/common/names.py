"""What a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """Up to three known names close to `name`, the closest first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=cutoff)
