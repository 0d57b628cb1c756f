"""Keywords of earlier versions, each with what to write instead: one that is swallowed would train another model."""

from collections.abc import Iterable

CHANGED_KEYWORDS: dict[str, str] = {}
"""Keyword -> the rest of the sentence that refuses it."""


def refuse_changed(keywords: Iterable[str]) -> None:
    """Raise ValueError for the first keyword of an earlier version."""
    for keyword in keywords:
        if keyword in CHANGED_KEYWORDS:
            raise ValueError(f"{keyword} {CHANGED_KEYWORDS[keyword]}")
