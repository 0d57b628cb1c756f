"""An untrained experiment on rows with columns of every kind."""

from pathlib import Path
from typing import Any

import torch
import yaml
from made_columns import write_rows

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.experiment.configuration.yaml_files import ConfigDumper
from dien_fuxictr.experiment.training import checkpoint

TRAINING = {"loss": "binary_crossentropy", "task": "binary_classification", "metrics": ["AUC"], "optimizer": "adam"}


HISTORIES = ("item_history", "cate_history")
MODEL = {
    "model": "DIEN",
    "attention_type": "din_attention",
    "dien_target_field": [("item_id", "cate_id")],
    "dien_sequence_field": [HISTORIES],
}
"""A DIEN of one pair of sequences."""


def made_experiment(folder: Path, model: dict[str, Any], columns: list[dict], **of_data: Any) -> Experiment:
    """Its checkpoint is written; embeddings are of a size that trained ones have.

    `of_data` are further keys of the data set's entry; with a `build` section it is made of that.
    """
    folder.mkdir(exist_ok=True)
    rows = folder / "in"
    if not rows.exists() and "build" not in of_data:
        write_rows(rows)
    entry = {
        "data_root": str(folder / "data"),
        "data_format": "csv",
        **{f"{split}_data": str(rows / f"{split}.csv") for split in ("train", "valid", "test")},
        "feature_cols": columns,
        "label_col": {"name": "label", "dtype": "float"},
        "min_categr_count": 1,
        **of_data,
    }
    settings = {**TRAINING, "dataset_id": "made", "model_root": str(folder / "models"), "verbose": 0, "seed": 1}
    (folder / "config").mkdir()
    for name, content in (("model", {"Base": {}, "X": {**settings, **model}}), ("dataset", {"made": entry})):
        text = yaml.dump(content, Dumper=ConfigDumper)
        (folder / "config" / f"{name}_config.yaml").write_text(text)
    experiment = open_experiment("X", folder / "config")
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in experiment.model.named_parameters():
            if "embedding" in name:  # except for the row of the padding, which is zero
                weight[1:].normal_(std=0.5)
    checkpoint.save(experiment.model.state_dict(), experiment.checkpoint)
    return experiment
