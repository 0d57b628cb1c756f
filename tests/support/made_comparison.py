"""Runs of a comparison that take no time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from dien_fuxictr.distributed.run_pool import Pool
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.studies.runs.run import Run

SETTINGS = {
    "model": "DIEN",
    "loss": "binary_crossentropy",
    "optimizer": "adam",
    "dataset_id": "d",
    "metrics": ["AUC", "logloss"],
    "seed": 5,
    "batch_size": 8,
    "dien_target_field": ("item_id",),
}


class Fake:
    """Replaces the processes: writes the reports that `run_expid.py` would write."""

    def __init__(self) -> None:
        self.started: list[list[str]] = []
        self.broken: set[str] = set()

    def __call__(self, runs: Sequence[Run], pool: Pool, finished: int, on_finish: Callable[[Run], None]) -> list[str]:
        self.started.append([run.expid for run in runs])
        self.gpus, self.finished = pool.gpus, finished
        for run in runs:
            if run.expid not in self.broken:
                self.report(load_config(run.config, run.expid).params, run.report)
                on_finish(run)
        return [run.expid for run in runs if run.expid in self.broken]

    def report(self, params: dict, folder: Path) -> None:
        label = np.tile([1.0, 0.0], 100)
        score = np.random.default_rng(0).normal(label * (2 if "strong" in params["model_id"] else 1))
        score += np.random.default_rng(params["seed"]).normal(scale=0.1, size=200)
        folder.mkdir(parents=True)
        np.savez(folder / "predictions.npz", label=label, score=score, group=np.repeat(np.arange(100), 2))
        (folder / "result.json").write_text(
            json.dumps(
                {
                    "model": params["model"],
                    "seed": params["seed"],
                    "valid": {"AUC": 0.6},
                    "test": {"AUC": roc_auc_score(label, score), "logloss": 0.5},
                    "parameters": 10,
                    "epochs": 2,
                    "train_seconds": 2.0,
                    "train_rows": 20,
                    "inference_ms": 1.0,
                    "curve": [{"step": 1, "validation/AUC": 0.6}],
                    "dataset_id": params["dataset_id"],
                    "versions": {},
                    "hardware": {"device": "CPU", "cpus": 2, "threads": 1},
                    "config": {key: repr(value) for key, value in params.items()},
                }
            )
        )
