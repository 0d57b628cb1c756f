"""Columns of every kind as an entry lists them, and rows that have them."""

from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.dataset.samples.protocols import SPLITS

META = {"name": "user_id", "active": True, "dtype": "str", "type": "meta"}


def sequence(name: str, **keys) -> dict:
    return {
        "name": name,
        "active": True,
        "dtype": "str",
        "type": "sequence",
        "splitter": "^",
        "max_len": 4,
        "padding": "post",
        "feature_encoder": None,
        **keys,
    }


def categorical(name: str | list, dtype: str = "str", **keys) -> dict:
    return {"name": name, "active": True, "dtype": dtype, "type": "categorical", **keys}


def numeric(name: str, dtype: str = "float", **keys) -> dict:
    return {"name": name, "active": True, "dtype": dtype, "type": "numeric", **keys}


def write_rows(folder: Path) -> Path:
    """Three CSV files with every kind of column, with nulls, empty strings and gaps."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    for split, size in zip(SPLITS, (60, 20, 20), strict=True):
        lengths = rng.integers(0, 7, size)
        histories = [[f"i{k}" for k in rng.integers(0, 12, length)] for length in lengths]
        others = [[f"i{k}" for k in rng.integers(8, 20, length)] for length in rng.integers(0, 5, size)]
        pl.DataFrame(
            {
                "label": rng.integers(0, 2, size),
                "user_id": [f"u{k}" for k in rng.integers(0, 30, size)],
                "item_id": [f"i{k}" for k in rng.integers(0, 14, size)],
                "cate_id": [f"c{k}" for k in rng.integers(0, 3, size)],
                "item_history": ["^".join(h) for h in histories],
                "cate_history": ["^".join(f"c{int(i[1:]) % 3}" for i in h) for h in histories],
                "other_history": ["^".join(h) for h in others],
                "pipes": ["|".join(h) for h in others],
                "gaps": [
                    "^".join("" if k % 3 == 0 else f"g{k}" for k in rng.integers(0, 5, length)) for length in lengths
                ],
                "unseen": ["i1" if split == "test" else None] * size,
                "empty": [None] * size,
                "brand": [None if k == 0 else f"b{k}" for k in rng.integers(0, 4, size)],
                "age": rng.integers(18, 30, size),
                "zip": [None if k == 3 else int(k) for k in rng.integers(0, 9, size)],
                "count": rng.integers(100, 130, size),
                "price": rng.normal(5, 2, size),
                "score": [None if k < 0.2 else float(k) for k in rng.random(size)],
            }
        ).write_csv(folder / f"{split}.csv")
    return folder
