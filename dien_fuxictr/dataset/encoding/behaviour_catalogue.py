"""The behaviour catalogue: tuples observed in training, and their counts.

A tuple is an item with its side fields.
"""

from pathlib import Path

import numpy as np
import polars as pl

from ..samples.ranges import coverage
from .encoded import EncodedHistory

FOLDER = "behaviour_catalogue"


def tuples_of(table: list[str], features: dict[str, dict]) -> list[list[str]]:
    """Split aligned columns into tuples in which no two columns share an embedding.

    Clicked and not clicked items of one table thereby become two tuples, each item with its own side columns.

    Args:
        table: aligned sequence columns.
        features: `feature_map.features`.
    """
    tuples: list[dict[str, str]] = []
    for name in table:
        root = name
        while features[root].get("share_embedding"):
            root = features[root]["share_embedding"]
        free = next((fields for fields in tuples if root not in fields), None)
        if free is None:
            tuples.append({root: name})
        else:
            free[root] = name
    return [list(fields.values()) for fields in tuples]


def observed_tuples(
    histories: dict[str, EncodedHistory], fields: list[str], oov: int, behaviour: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return the distinct tuples in the training histories, in ascending order.

    Args:
        histories: encoded sequence columns of the training split.
        fields: columns of one table.
        oov: id of unknown values of the first field.
        behaviour: (S,) number of each stored behaviour; stored behaviours with equal numbers count once. None: every
            stored behaviour counts.

    Returns:
        One (K,) int32 array per field, and `count`, (K,) int64, the number of behaviours with the tuple. The first
        field is never padding or OOV.
    """
    first = histories[fields[0]]
    used = np.flatnonzero(coverage(first.start, first.length, len(first.ids)))
    if behaviour is not None:
        used = used[np.unique(behaviour[used], return_index=True)[1]]
    behaviours = pl.DataFrame({str(i): histories[name].ids[used] for i, name in enumerate(fields)})
    keys = behaviours.columns
    counts = behaviours.filter((pl.col("0") != 0) & (pl.col("0") != oov)).group_by(keys).len("count").sort(keys)
    arrays = {name: counts[key].to_numpy() for name, key in zip(fields, keys, strict=True)}
    return {**arrays, "count": counts["count"].to_numpy().astype(np.int64)}


def save_catalogues(
    data_dir: Path,
    histories: dict[str, EncodedHistory],
    tables: list[list[str]],
    features: dict[str, dict],
    oov: dict[str, int],
    behaviour: np.ndarray | None = None,
) -> None:
    """Write `behaviour_catalogue/<first field>.npz` for each tuple of columns.

    Args:
        data_dir: folder of the encoded set.
        histories: encoded sequence columns of the training split.
        tables: aligned sequence columns.
        features: `feature_map.features`.
        oov: column -> id of unknown values.
        behaviour: as for `observed_tuples`.
    """
    folder = data_dir / FOLDER
    folder.mkdir(exist_ok=True)
    for table in tables:
        for fields in tuples_of(table, features):
            numbered = behaviour is not None and len(behaviour) == len(histories[fields[0]].ids)
            arrays = observed_tuples(histories, fields, oov[fields[0]], behaviour if numbered else None)
            np.savez(folder / f"{fields[0]}.npz", allow_pickle=False, **arrays)
