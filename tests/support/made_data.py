"""Small data sets as the zoo's CSV and as samples, with equal content."""

import copy
from pathlib import Path

import numpy as np
import polars as pl
from fuxictr.features import FeatureMap

from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.dataset.loading.loader import InMemoryDataLoader
from dien_fuxictr.dataset.loading.prepare import prepare_dataset
from dien_fuxictr.dataset.samples.protocols import SPLITS

FEATURE_COLS = [
    {"name": "user_id", "active": True, "dtype": "str", "type": "meta"},
    {"name": ["item_id", "cate_id"], "active": True, "dtype": "str", "type": "categorical"},
    {
        "name": "item_history",
        "active": True,
        "dtype": "str",
        "type": "sequence",
        "splitter": "^",
        "max_len": 6,
        "padding": "post",
        "share_embedding": "item_id",
        "feature_encoder": None,
    },
    {
        "name": "cate_history",
        "active": True,
        "dtype": "str",
        "type": "sequence",
        "splitter": "^",
        "max_len": 6,
        "padding": "post",
        "share_embedding": "cate_id",
        "feature_encoder": None,
    },
]


def write_samples(folder: Path, users: int = 12, items: int = 15, seed: int = 0) -> Path:
    """Write samples that share stored histories.

    Every prefix of a user's behaviours is for training, except the last two.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lengths = rng.integers(4, 9, users)
    owner = np.repeat(np.arange(users), lengths)
    item = rng.integers(0, items, len(owner))
    first = np.searchsorted(owner, owner)
    position, last = np.arange(len(owner)) - first, np.repeat(lengths, lengths) - 1
    ids = pl.Series([f"i{k}" for k in range(items)])
    categories = pl.Series([f"c{k % 4}" for k in range(items)])
    user_ids = pl.Series([f"u{k}" for k in range(users)]).gather(owner)
    pl.DataFrame(
        {
            "item_history": ids.gather(item),
            "cate_history": categories.gather(item),
            "time": np.arange(len(owner)),
            "user_id": user_ids,
        }
    ).write_parquet(folder / "behaviours.parquet")
    for split, rows in {"train": position < last - 1, "valid": position == last - 1, "test": position == last}.items():
        target = np.repeat(np.flatnonzero(rows), 2)
        label = np.tile([1, 0], len(target) // 2)
        shown = np.where(label == 1, item[target], rng.integers(0, items, len(target)))
        pl.DataFrame(
            {
                "label": label.astype(np.int8),
                "user_id": user_ids.gather(target),
                "item_id": ids.gather(shown),
                "cate_id": categories.gather(shown),
                "history_start": first[target],
                "history_length": position[target].astype(np.int32),
            }
        ).write_parquet(folder / f"{split}.parquet")
    return folder


def as_csv(samples: Path, folder: Path) -> Path:
    """Write the samples of a folder as the zoo's CSV files."""
    folder.mkdir(parents=True, exist_ok=True)
    behaviours = pl.read_parquet(samples / "behaviours.parquet")
    for split in SPLITS:
        rows = pl.read_parquet(samples / f"{split}.parquet")
        spans = list(zip(rows["history_start"], rows["history_length"], strict=True))
        joined = [
            pl.Series(name, ["^".join(behaviours[name].slice(*span)) for span in spans], dtype=pl.String)
            for name in ("item_history", "cate_history")
        ]
        rows.drop("history_start", "history_length").with_columns(joined).write_csv(folder / f"{split}.csv")
    return folder


def entry(data: Path, root: Path, data_format: str = "csv", **overrides) -> dict:
    """Return the entry of a data set for the files in `data`, as params."""
    return {
        "dataset_id": "made",
        "data_root": str(root),
        "data_format": data_format,
        "min_categr_count": 1,
        **{f"{split}_data": str(data / f"{split}.{data_format}") for split in SPLITS},
        "feature_cols": copy.deepcopy(FEATURE_COLS),
        "label_col": {"name": "label", "dtype": "float"},
        "group_id": "user_id",
        "batch_size": 8,
        "shuffle": False,
        "verbose": 0,
        "dien_sequence_field": [("item_history", "cate_history")],
        **overrides,
    }


def prepare_entry(params: dict, rebuild: bool = False) -> dict:
    """Return the params of an experiment whose data set is prepared."""
    return params | prepare_dataset(DatasetEntry.of(params), rebuild)


def prepared_arrays(params: dict) -> tuple[Path, dict[str, dict[str, np.ndarray]]]:
    """Return the folder of the prepared set, and its splits padded to max_len."""
    prepared = prepare_entry(params)
    data_dir = Path(params["data_root"], params["dataset_id"])
    feature_map = FeatureMap(params["dataset_id"], str(data_dir))
    feature_map.load(str(data_dir / "feature_map.json"), prepared)
    encoded = {}
    for split in SPLITS:
        loader = InMemoryDataLoader(feature_map, prepared[f"{split}_data"], batch_size=1000, trim_histories=False)
        encoded[split] = {name: tensor.numpy() for name, tensor in next(iter(loader)).items()}
    return data_dir, encoded
