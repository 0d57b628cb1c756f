"""DIEN on three small CSV files, or on raw reviews, in a folder."""

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import yaml

STRING = {"active": True, "dtype": "str"}
SEQUENCE = {**STRING, "type": "sequence", "splitter": "^", "max_len": 6, "padding": "post", "feature_encoder": None}
FEATURES = [
    {"name": "user_id", **STRING, "type": "meta"},
    {"name": ["item_id", "cate_id"], **STRING, "type": "categorical"},
    {"name": "item_history", **SEQUENCE, "share_embedding": "item_id"},
    {"name": "cate_history", **SEQUENCE, "share_embedding": "cate_id"},
]
MODEL = {
    "model": "DIEN",
    "dataset_id": "d",
    "loss": "binary_crossentropy",
    "metrics": ["AUC"],
    "optimizer": "adam",
    "task": "binary_classification",
    "batch_size": 16,
    "embedding_dim": 4,
    "epochs": 1,
    "seed": 1,
    "verbose": 0,
    "dnn_hidden_units": [4],
    "attention_hidden_units": [4],
    "aux_hidden_units": [4],
    "aux_loss_alpha": 0.5,
    "dien_target_field": [["item_id", "cate_id"]],
    "dien_sequence_field": [["item_history", "cate_history"]],
    "dien_neg_seq_field": [],
}
MODEL["dien_target_field"] = [tuple(MODEL["dien_target_field"][0])]
MODEL["dien_sequence_field"] = [tuple(MODEL["dien_sequence_field"][0])]


class DienOnCsv:
    """DIEN on three small CSV files, or on raw reviews with `raw()`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(0)
        self.dataset = {
            "data_root": "./built/",
            "data_format": "csv",
            "min_categr_count": 1,
            "feature_cols": FEATURES,
            "label_col": {"name": "label", "dtype": "float"},
            **{f"{split}_data": f"{split}.csv" for split in ("train", "valid", "test")},
        }
        (self.folder / "built").mkdir()
        (self.folder / "config").mkdir(exist_ok=True)
        for split in ("train", "valid", "test"):
            self.rows().write_csv(self.folder / f"{split}.csv")
        self.configure()

    def rows(self, n: int = 40) -> pl.DataFrame:
        items = [self.rng.integers(0, 9, self.rng.integers(1, 6)) for _ in range(n)]
        target = self.rng.integers(0, 9, n)
        return pl.DataFrame(
            {
                "label": [i % 2 for i in range(n)],
                "user_id": [f"u{i // 2}" for i in range(n)],
                "item_id": [f"i{i}" for i in target],
                "cate_id": [f"c{i % 3}" for i in target],
                "item_history": ["^".join(f"i{i}" for i in row) for row in items],
                "cate_history": ["^".join(f"c{i % 3}" for i in row) for row in items],
            }
        )

    def configure(self, model: dict | None = None, dataset: dict | None = None) -> None:
        config = self.folder / "config"
        settings = {**MODEL, **(model or {})}
        # The zoo's YAML: tuples of fields with the tag of yaml.dump.
        (config / "model_config.yaml").write_text(yaml.dump({"X": settings}))
        (config / "dataset_config.yaml").write_text(yaml.dump({"d": {**self.dataset, **(dataset or {})}}))

    def write_raw(self) -> None:
        """Raw reviews of the same users."""
        with gzip.open(self.folder / "meta.json.gz", "wt") as file:
            for i in range(9):
                file.write(f"{{'asin': 'i{i}', 'categories': [['All', 'c{i % 3}']]}}\n")
        with gzip.open(self.folder / "reviews.json.gz", "wt") as file:
            for user in range(30):
                for day, item in enumerate(self.rng.permutation(9)[:5]):
                    file.write(
                        json.dumps({"reviewerID": f"u{user}", "asin": f"i{item}", "unixReviewTime": 86400 * day}) + "\n"
                    )

    def raw(self) -> None:
        """Build from raw reviews instead."""
        self.write_raw()
        self.dataset |= {
            "data_format": "parquet",
            "build": {
                "source": "amazon",
                "reviews": "reviews.json.gz",
                "meta": "meta.json.gz",
                "max_len": 6,
                "raw_from": "ask the authors",
            },
        }
        self.configure()
