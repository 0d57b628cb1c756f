"""Partitions of the test rows, by history length and by item popularity."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dien_fuxictr.dataset.encoding.encoded import load_split

PARTS = 5


@dataclass(frozen=True)
class Slices:
    """A partition of the test rows.

    Attributes:
        title: what they are sorted by.
        names: names of the parts, ascending: "3-5".
        part: (N,) number of each row's part.
    """

    title: str
    names: list[str]
    part: np.ndarray


def split_by_value(title: str, values: np.ndarray) -> Slices:
    """Split rows into parts of about equal size; rows of equal value stay together.

    Args:
        title: title of the partition.
        values: (N,) whole numbers.
    """
    inner = np.unique(np.quantile(values, np.arange(1, PARTS) / PARTS, method="lower"))
    part = np.searchsorted(inner, values, side="left")
    used, part = np.unique(part, return_inverse=True)
    ends = [(values[part == number].min(), values[part == number].max()) for number in range(len(used))]
    names = [f"{low}" if low == high else f"{low}-{high}" for low, high in ends]
    return Slices(title=title, names=names, part=part)


def slice_test_rows(data_dir: Path) -> list[Slices]:
    """Split test rows by history length and by the item's clicks in training.

    Args:
        data_dir: folder of a data set that was encoded here.

    Raises:
        FileNotFoundError: FuxiCTR encoded it, or it is encoded data of the user's.
    """
    train, test = (load_split(data_dir / "encoded" / f"{split}.npz") for split in ("train", "test"))
    if not test.tables:
        return []
    history = test.tables[0]
    slices = [split_by_value("history length", history.length)]
    feature_map = json.loads((data_dir / "feature_map.json").read_text(encoding="utf-8"))
    features = {name: spec for entry in feature_map["features"] for name, spec in entry.items()}
    item = features[next(iter(history.columns))].get("share_embedding")
    if item in test.columns:
        clicked = train.columns[item][train.columns[feature_map["labels"][0]] == 1]
        counts = np.bincount(clicked, minlength=int(test.columns[item].max()) + 1)
        slices.append(split_by_value("clicks of the item in training", counts[test.columns[item]]))
    return slices
