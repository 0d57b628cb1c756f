"""Rows of a folder of samples as requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl


def requests_of(samples: Path, split: str = "test") -> Iterator[dict[str, Any]]:
    """Yield requests of neighbouring rows of one user with one history, in order."""
    behaviours = pl.read_parquet(samples / "behaviours.parquet")
    rows = pl.read_parquet(samples / f"{split}.parquet")
    key = ["user_id", "history_start", "history_length"]
    run = pl.struct(key).rle_id()
    for (_,), group in rows.group_by(run.alias("run"), maintain_order=True):
        start, length = group.row(0, named=True)["history_start"], group.row(0, named=True)["history_length"]
        history = behaviours.slice(start, length)
        yield {
            "user": {name: history[name].to_list() for name in ("item_history", "cate_history")},
            "candidates": {name: group[name].to_list() for name in ("item_id", "cate_id")},
        }
