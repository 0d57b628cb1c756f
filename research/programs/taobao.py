"""Commands of `full_size --log Taobao`: one log exceeds memory, one fits.

The log (`research.programs.raw_clicks`) is built and read by `data_loader: memory_mapped`, one of at most 4 million
behaviours by `in_memory`; DIEN takes its first 1,000 steps on both, and the loader alone makes as many batches.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.report import Row
from dien_fuxictr.experiment.configuration.yaml_files import write_config

from .commands import PREPARE, Step
from .raw_clicks import Clicks

NAME = "Taobao"
FITS = 4_000_000
"""Behaviours of the log that is held in memory."""
STEPS = 1000
MAX_LEN, BATCH_SIZE = 50, 512
LOADERS = ("memory_mapped", "in_memory")


def steps(options: argparse.Namespace) -> list[Step]:
    """Return the measured steps, in order."""
    python, module = sys.executable, "-m"
    found = []
    for loader, log in zip(LOADERS, logs(options.share), strict=True):
        share = log.behaviours / Clicks().behaviours
        make = [python, module, "research.programs.raw_clicks", f"data/raw/{loader}", "--share", str(share)]
        samples = f"data/{loader}/samples"
        first = [python, module, "research.programs.first_steps", loader, "--steps", str(STEPS)]
        found += [
            Step(f"{loader}: made log", f"{loader}_raw", [*make, "--seed", str(options.seed)], rows=log.behaviours),
            Step(f"{loader}: build", f"{loader}_build", [python, "-c", PREPARE, loader, "config"], samples),
            Step(f"{loader}: {STEPS} steps", f"{loader}_steps", first, samples, ["train"]),
        ]
    return found


def logs(share: float) -> tuple[Clicks, Clicks]:
    """Return the log, and a smaller one that fits in memory."""
    return Clicks().share(share), Clicks().share(min(share, FITS / Clicks().behaviours))


def results(folder: Path, rows: list[Row]) -> tuple[dict[str, list[Row]], list[str]]:
    """Return tables by title, and notes."""
    found = {loader: json.loads((folder / f"{loader}_steps.log").read_text().splitlines()[-1]) for loader in LOADERS}
    rates = [
        {
            "data_loader": loader,
            "loader alone, batches/s": 1 / result["loading"],
            "training, steps/s": 1 / result["training"],
        }
        for loader, result in found.items()
    ]
    notes = [
        "rows: behaviours, then samples of the three splits, at last those of the epoch whose first batches are taken",
        f"batches of {BATCH_SIZE} rows, histories of at most {MAX_LEN} behaviours",
    ]
    return {"A log larger than memory, and one that fits": rows, "Rates": rates}, notes


def write_entries(folder: Path) -> None:
    """Write `config/` of the two experiments, each with a data set of its name."""
    history = {"dtype": "str", "type": "sequence", "splitter": "^", "max_len": MAX_LEN, "feature_encoder": None}
    data = {
        "data_root": "./data/",
        "data_format": "parquet",
        "min_categr_count": 1,
        "feature_cols": [
            {"name": "user_id", "dtype": "str", "type": "meta"},
            {"name": ["item_id", "cate_id"], "dtype": "str", "type": "categorical"},
            {**history, "name": "item_history", "share_embedding": "item_id"},
            {**history, "name": "cate_history", "share_embedding": "cate_id"},
        ],
        "label_col": {"name": "label", "dtype": "float"},
    }
    columns = {"user": "user", "item": "item", "category": "category", "time": "time"}
    build = {"source": "log", **columns, "protocol": "leave_one_out", "max_len": MAX_LEN}
    sets = {
        loader: {**data, "data_loader": loader, "build": {**build, "input": f"./data/raw/{loader}"}}
        for loader in LOADERS
    }
    model = {
        "model": "DIEN",
        "model_root": "./checkpoints/",
        "task": "binary_classification",
        "loss": "binary_crossentropy",
        "metrics": ["AUC", "logloss"],
        "monitor": "AUC",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "batch_size": BATCH_SIZE,
        "epochs": 1,
        "seed": 2019,
        "num_threads": 1,
        "embedding_dim": 18,
        "embedding_updates": "sparse",
        "dnn_hidden_units": [200, 80],
        "batch_norm": False,
        "attention_type": "din_attention",
        "enable_sum_pooling": True,
        "aux_loss_alpha": 1,
        "dien_target_field": ("item_id", "cate_id"),
        "dien_sequence_field": ("item_history", "cate_history"),
    }
    write_config(folder / "config" / "dataset_config.yaml", sets)
    experiments = {loader: {**model, "dataset_id": loader} for loader in LOADERS}
    write_config(folder / "config" / "model_config.yaml", {"Base": {}, **experiments})
