"""Which test rows a run is scored on: runs of different data sets compare where these are the same."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from ..runs.run import Run
from .statistics import users_of

_TARGET = ("label", "user_id", "item_id")


def data_dir(run: Run) -> Path:
    """The folder of the built data set of a run."""
    folder = Path(run.params["data_root"], run.params["dataset_id"])
    places = (Path(), *run.config.absolute().parents)
    return next((place / folder for place in places if (place / folder).is_dir()), folder)


def rows_of(run: Run, predictions: Mapping[str, np.ndarray]) -> int:
    """A number that stands for the test rows: labels, users and items in their order.

    Histories do not count: systems that see more or less of them, or in another order, are asked the same. Of a data
    set that was not built from raw files the items are not known, so that its rows are its own.

    Args:
        predictions: predictions.npz of the run.
    """
    samples = data_dir(run) / "samples"
    if (samples / "test.parquet").is_file():
        rows = pl.read_parquet(samples / "test.parquet", columns=list(_TARGET))
        text = rows.select(_TARGET).write_csv()
    else:
        _, first, user = np.unique(users_of(predictions), return_index=True, return_inverse=True)
        users = first.argsort().argsort()[user]
        text = f"{run.params['dataset_id']} {predictions['label'].tolist()} {users.tolist()}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
