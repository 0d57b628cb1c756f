"""Bundles of untrained models in the sizes of the paper's Amazon data.

The cost of scores does not depend on weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.dataset.samples.protocols import SPLITS
from dien_fuxictr.experiment.configuration.config import BASE
from dien_fuxictr.experiment.configuration.yaml_files import write_config
from dien_fuxictr.serving.write import write_bundle

from ..synthetic_batches import HISTORIES, Sizes

_DATASET = "made"
_WORDS = {"item_id": "B{:09}", "cate_id": "category {}", "context": "c{}"}


class Workshop:
    """Makes bundles that share one data set, whose vocabularies are full.

    Args:
        folder: for all that is written.
        sizes: sizes of vocabularies and layers.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder, self._sizes = folder, sizes
        self._columns = [
            *({"name": name, "active": True, "dtype": "str", "type": "categorical"} for name in _WORDS),
            *(_history(name, root, sizes.max_len) for name, root in HISTORIES.items()),
        ]
        self._write_rows()

    def bundle(self, name: str, seed: int = 0, **keys: Any) -> Path:
        """Return the folder of a bundle, which is built once.

        Args:
            name: experiment id, a different one for different keys.
            seed: seed of the weights.
            keys: keys of DIEN, or another `model` with its keys, besides the sizes.
        """
        folder = self._folder / f"{name}_{seed}.bundle"
        if not folder.is_dir():
            experiment = self._experiment(name, seed, keys)
            experiment.prepare()
            experiment.folder.mkdir(parents=True, exist_ok=True)
            torch.save(experiment.model.state_dict(), experiment.checkpoint)
            write_bundle(experiment, folder, [])
        return folder

    def _experiment(self, name: str, seed: int, keys: dict[str, Any]) -> Experiment:
        sizes, config = self._sizes, self._folder / "config"
        entry = {
            "model": "DIEN",
            "dataset_id": _DATASET,
            "model_root": str(self._folder / "checkpoints"),
            "task": "binary_classification",
            "loss": "binary_crossentropy",
            "metrics": ["AUC"],
            "monitor": "AUC",
            "optimizer": "adam",
            "learning_rate": 1e-3,
            "batch_size": 1024,
            "epochs": 1,
            "seed": seed,
            "verbose": 0,
            "embedding_dim": sizes.embedding,
            "dnn_hidden_units": list(sizes.mlp_units),
            "attention_type": "din_attention",
            "attention_hidden_units": list(sizes.attention_units),
            "attention_activation": "Sigmoid",
            "dien_target_field": [("item_id", "cate_id")],
            "dien_sequence_field": [tuple(HISTORIES)],
            "dien_neg_seq_field": [],
            **keys,
        }
        write_config(config / "model_config.yaml", {BASE: {}, name: entry})
        dataset = {
            "data_root": str(self._folder),
            "data_format": "parquet",
            **{f"{split}_data": str(self._folder / f"{split}.parquet") for split in SPLITS},
            "min_categr_count": 1,
            "feature_cols": self._columns,
            "label_col": {"name": "label", "dtype": "float"},
        }
        write_config(config / "dataset_config.yaml", {_DATASET: dataset})
        return open_experiment(name, config)

    def _write_rows(self) -> None:
        """Write training rows with each token, and some rows of validation and test."""
        (self._folder / "config").mkdir(parents=True)
        numbers = np.arange(self._sizes.items - 2)  # a vocabulary also has padding and the unknown value
        labels = np.arange(len(numbers)) % 2
        words = {name: self.words(name, numbers) for name in _WORDS}
        histories = {name: words[root] for name, root in HISTORIES.items()}
        rows = pl.DataFrame({"label": labels, **words, **histories})
        for split in SPLITS:
            (rows if split == "train" else rows.head(20)).write_parquet(self._folder / f"{split}.parquet")

    def words(self, name: str, numbers: np.ndarray) -> list[str]:
        """Return raw values of items by number: ids, or their categories or contexts."""
        known = self._sizes.vocabularies[name] - 2
        return [_WORDS[name].format(number % known) for number in numbers.tolist()]

    def request(self, behaviours: int, candidates: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return a request of uniform items with categories, and a common context."""
        past, others = (rng.integers(0, self._sizes.items - 2, count) for count in (behaviours, candidates))
        user: dict[str, Any] = {name: self.words(root, past) for name, root in HISTORIES.items()}
        user["context"] = self.words("context", rng.integers(0, self._sizes.contexts, 1))[0]
        return {"user": user, "candidates": {name: self.words(name, others) for name in ("item_id", "cate_id")}}


def _history(name: str, root: str, max_len: int) -> dict[str, Any]:
    return {
        "name": name,
        "active": True,
        "dtype": "str",
        "type": "sequence",
        "splitter": "^",
        "max_len": max_len,
        "padding": "post",
        "share_embedding": root,
        "feature_encoder": None,
    }
