"""Decode ids to the words of the raw data, and find words that a user names."""

from collections.abc import Sequence

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.encoding.encoder import Encoder

UNKNOWN = "unknown in training"
"""Word of padding and of out-of-vocabulary ids."""


def words_of(encoder: Encoder, column: str, ids: np.ndarray) -> dict[int, str]:
    """Return each distinct id of a column -> its word.

    Padding and values that the vocabulary lacks are left out.
    """
    vocabulary = next(spec for spec in encoder.columns if spec["name"] == column).get("vocabulary")
    distinct = np.unique(ids).tolist()
    if vocabulary is None:
        return {value: str(value) for value in distinct}
    words = {
        value: str(word)
        for word, value in encoder.vocabularies[vocabulary].items()
        if word not in ("__PAD__", "__OOV__")
    }
    return {value: words[value] for value in distinct if value in words}


def rows_of_words(encoder: Encoder, columns: Sequence[str], ids: np.ndarray) -> list[tuple[str, ...]]:
    """Return the words of rows of ids, (N, F) for F columns."""
    words = [words_of(encoder, name, ids[:, place]) for place, name in enumerate(columns)]
    return [tuple(of.get(value, UNKNOWN) for of, value in zip(words, row, strict=True)) for row in ids.tolist()]


def find(words: dict[int, str], word: str, option: str, what: str) -> int:
    """Return the id of a word that a user gave.

    Raises:
        UserError: the word is unknown; the message has the nearest words, or a few.
    """
    for value, known in words.items():
        if known == word:
            return value
    near = nearest(word, words.values())
    few = ", ".join(list(words.values())[:3])
    hint = f"nearest: {', '.join(near)}" if near else f"there are {len(words)}: {few}, ..."
    raise UserError(f"{option} {word} is an unknown {what}; {hint}")
