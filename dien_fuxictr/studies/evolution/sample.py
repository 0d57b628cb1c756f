"""User of the page: one row of the test data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fuxictr.features import FeatureMap
from torch import Tensor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.encoded import EncodedSplit, load_split
from dien_fuxictr.dataset.encoding.encoder import Encoder
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader

from .words import UNKNOWN, find, words_of

GOOD_LENGTH = 20
"""Behaviours: still readable one by one, and enough for an interest to change."""


@dataclass(frozen=True)
class Sample:
    """Row of the test data.

    Attributes:
        user: id in the raw data.
        clicked: its label.
        batch: the loader's batch of this row.
        history: (F, T) ids of the behaviours, the oldest first.
    """

    user: str
    clicked: bool
    batch: dict[str, Tensor]
    history: np.ndarray


def choose_sample(
    feature_map: FeatureMap, encoder: Encoder, params: dict[str, Any], behaviours: Sequence[str], user: str | None
) -> Sample:
    """Return a row of the test data, a clicked one if there is any.

    For a named user it is the row with the longest history, else the row whose history is closest to `GOOD_LENGTH`. Of
    several such rows the first in the file is returned.

    Args:
        feature_map: feature map of the data set.
        encoder: encoder of the data set.
        params: settings of the experiment.
        behaviours: the columns of a behaviour.
        user: id of a user; None: any.

    Raises:
        UserError: there is no test data, no column of the user, or no such user, or the user has no behaviours.
    """
    file = Path(feature_map.data_dir, "encoded", "test.npz")
    if not file.is_file():
        raise UserError(
            f"data set {params['dataset_id']} must have test data, from which the user is taken, and must not be built "
            "with data_loader: memory_mapped"
        )
    split = load_split(file)
    column = params.get("group_id") or "user_id"
    if column not in {spec["name"] for spec in encoder.columns}:
        raise UserError(
            f"column {column} is missing in data set {params['dataset_id']}; group_id must name the user's column"
        )
    owner, clicked = split.columns[column], split.columns[feature_map.labels[0]] > 0
    words = words_of(encoder, column, owner)
    rows = np.arange(len(split)) if user is None else np.flatnonzero(owner == find(words, user, "--user", "test user"))
    rows = rows[clicked[rows]] if clicked[rows].any() else rows
    length = next(table.length for table in split.tables if behaviours[0] in table.columns)[rows]
    row = rows[np.argmin(abs(length - GOOD_LENGTH)) if user is None else np.argmax(length)]
    loader = InMemoryDataLoader.from_encoded(feature_map, _only(split, row), batch_size=1)
    batch = next(iter(loader))
    real = batch[behaviours[0]][0] > 0
    history = np.stack([batch[name][0][real].numpy() for name in behaviours])
    name = words.get(int(owner[row]), UNKNOWN)
    if not history.size:
        raise UserError(f"user {name} of the test data has no behaviours: there is nothing to draw")
    return Sample(name, bool(clicked[row]), batch, history)


def _only(split: EncodedSplit, row: int) -> EncodedSplit:
    tables = [replace(table, start=table.start[[row]], length=table.length[[row]]) for table in split.tables]
    return EncodedSplit({name: values[[row]] for name, values in split.columns.items()}, tables)
