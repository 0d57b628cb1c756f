"""Encoded ids back to the words of the raw data, and the words that a user may name."""

from collections.abc import Sequence

import numpy as np

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.suggestions import nearest
from dien_fuxictr.dataset.encoding.encoder import Encoder

UNKNOWN = "unknown in training"
"""What padding and out-of-vocabulary ids stand for."""


def words_of(encoder: Encoder, column: str, ids: np.ndarray) -> dict[int, str]:
    """Each distinct id of a column -> its word; padding and values that the vocabulary does not have are left out."""
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
    """The words of rows of ids, (N, F) of F columns."""
    words = [words_of(encoder, name, ids[:, place]) for place, name in enumerate(columns)]
    return [tuple(of.get(value, UNKNOWN) for of, value in zip(words, row, strict=True)) for row in ids.tolist()]


def find(words: dict[int, str], word: str, option: str, what: str) -> int:
    """The id of a word that a user gave.

    Raises:
        UserError: it is none of the words; names the nearest, or a few.
    """
    for value, known in words.items():
        if known == word:
            return value
    near = nearest(word, words.values())
    few = ", ".join(list(words.values())[:3])
    hint = f"nearest: {', '.join(near)}" if near else f"there are {len(words)}: {few}, ..."
    raise UserError(f"{option} {word}: no such {what}; {hint}")
