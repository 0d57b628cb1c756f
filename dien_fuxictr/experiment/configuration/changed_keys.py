"""List keys of earlier versions, each with what to write instead."""

from model_zoo.DIEN.src.changed_keywords import CHANGED_KEYWORDS

CHANGED_KEYS: dict[str, str] = CHANGED_KEYWORDS | {}
"""Key -> the rest of the sentence that refuses it: `is now <key>`, or why it is gone."""
