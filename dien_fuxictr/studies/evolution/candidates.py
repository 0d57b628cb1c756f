"""The target items of the page: named ones, or a few with different histories.

The chosen items differ in what the history tells about them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from fuxictr.features import FeatureMap

from dien_fuxictr.dataset.encoding.encoded import load_split
from dien_fuxictr.dataset.encoding.encoder import Encoder

from .words import find, words_of


class Fields(NamedTuple):
    """Features of a target, the item first, and those of a behaviour."""

    target: tuple[str, ...]
    behaviours: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """Target item.

    Attributes:
        ids: ids of the target's fields, the item first.
        why: why it is on the page.
    """

    ids: tuple[float, ...]
    why: str


def known_items(feature_map: FeatureMap, fields: Fields) -> pl.DataFrame:
    """Return the items of the data set with their side fields, most frequent first.

    Returns:
        One column per target field, and `count`: occurrences as target and, if their ids mean the same, as behaviour.
    """
    splits = [load_split(file) for file in sorted(Path(feature_map.data_dir, "encoded").glob("*.npz"))]
    parts = [pl.DataFrame({name: split.columns[name] for name in fields.target}) for split in splits]
    if same_ids(feature_map, fields):
        stored = next(table.columns for table in splits[0].tables if fields.behaviours[0] in table.columns)
        pairs = zip(fields.target, fields.behaviours, strict=False)
        parts.append(pl.DataFrame({target: np.asarray(stored[name][:-1]) for target, name in pairs}))
    item = pl.col(fields.target[0])
    spec = feature_map.features[fields.target[0]]
    unknown = spec.get("oov_idx", spec["vocab_size"] - 1)
    known = pl.concat(parts).filter((item != 0) & (item != unknown))
    order = pl.col("count"), *map(pl.col, fields.target)
    counts = known.group_by(fields.target).len("count").sort(order, descending=[True, *[False] * len(fields.target)])
    return counts.unique(fields.target[0], keep="first", maintain_order=True)


def same_ids(feature_map: FeatureMap, fields: Fields) -> bool:
    """Return whether a behaviour's first fields have the target's vocabularies.

    It may have more fields.
    """
    of_target, of_behaviour = (
        [feature_map.features[name].get("share_embedding") or name for name in names] for names in fields
    )
    return of_behaviour[: len(of_target)] == of_target


def named(items: pl.DataFrame, encoder: Encoder, wanted: Sequence[str]) -> list[Candidate]:
    """Return the items that a user named, each once.

    Raises:
        UserError: the data set lacks an item, or training has never seen it.
    """
    item = items.columns[0]
    words = words_of(encoder, item, items[item].to_numpy())
    ids = [find(words, word, "--items", "item") for word in dict.fromkeys(wanted)]
    return [Candidate(items.row(by_predicate=pl.col(item) == value)[:-1], "named") for value in ids]


def telling(items: pl.DataFrame, own: Candidate, history: np.ndarray) -> list[Candidate]:
    """Return three telling items: the row's own target and two others.

    The others are the most frequent item of the category that dominates the history, and the most frequent one of a
    category that the history lacks. Without a category field each item counts as a category.

    Args:
        items: result of `known_items`.
        own: the row's target.
        history: (F, T) ids of the behaviours' fields; (F, 0) if they differ from those of targets.
    """
    side = min(1, len(own.ids) - 1)
    group = pl.col(items.columns[side])
    counts = Counter(history[side, ::-1].tolist())  # of equally frequent ones the last counts
    others = items.filter(pl.col(items.columns[0]) != own.ids[0])
    what = ("category", "item")[side == 0]
    chosen = [own]
    if counts:
        dominant = others.filter(group == counts.most_common(1)[0][0])
        chosen += [Candidate(row[:-1], f"{what} most frequent in the history") for row in dominant.head(1).rows()]
    foreign = others.filter(~group.is_in([*counts, own.ids[side]]))
    return chosen + [Candidate(row[:-1], f"{what} not in the history") for row in foreign.head(1).rows()]
