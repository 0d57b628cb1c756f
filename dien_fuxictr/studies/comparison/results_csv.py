"""A CSV file to which each finished run of a suite adds a row."""

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.lock import held
from dien_fuxictr.experiment.training.resume import DATA_CONTENT, FREE_KEYS, as_text

from ..runs.run import Run
from .plan import Comparison

COLUMNS = (
    "suite",
    "experiment",
    "variation",
    "dataset_id",
    "seed",
    "fold",
    "configuration",
    "test_AUC",
    "test_gAUC",
    "test_logloss",
    "monitor",
    "best_epoch",
    "epochs",
    "train_seconds",
    "commit",
    "torch",
    "hardware",
    "date",
)
IDENTITY = COLUMNS[:7]
"""Columns that tell rows apart: a second row that agrees in all of them is not added."""


class ResultsCsv:
    """The result rows of a suite.

    Args:
        file: need not exist.
        suite: its name.
        comparison: whose runs it gets.
        has_folds: whether runs differ by fold.

    Raises:
        UserError: what is there has other columns.
    """

    def __init__(self, file: Path, suite: str, comparison: Comparison, has_folds: bool) -> None:
        self.file, self._suite, self._has_folds = file, suite, has_folds
        self._models = {run.expid: model for model in comparison.models for run in model.runs}
        self._rows()

    def add(self, run: Run) -> None:
        """Add the row of a run that has finished, unless it is there."""
        if (result := run.result) is None:
            return
        row = self._row(run, result)
        with held(self.file.with_name(f".{self.file.name}.lock"), f"{self.file}", wait=True):
            rows = self._rows()
            if any(all(old[key] == row[key] for key in IDENTITY) for old in rows):
                return
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, list[str](COLUMNS), lineterminator="\n")
            writer.writeheader()
            writer.writerows([*rows, row])
            write_atomic(self.file, lambda file: file.write(text.getvalue().encode()))

    def _rows(self) -> list[dict[str, str]]:
        if not self.file.exists():
            return []
        with open(self.file, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UserError(f"{self.file} has other columns than a suite's results: {', '.join(COLUMNS)}")
            return list(reader)

    def _row(self, run: Run, result: dict[str, Any]) -> dict[str, str]:
        model, test = self._models[run.expid], result["test"]
        values = {
            "suite": self._suite,
            "experiment": model.experiment,
            "variation": json.dumps(model.variation, sort_keys=True),
            "dataset_id": run.params["dataset_id"],
            "seed": run.params["seed"],
            "fold": run.params["build"].get("fold", 0) if self._has_folds else "",
            "configuration": configuration_hash(run),
            **{f"test_{name}": f"{test[name]:.6f}" if name in test else "" for name in ("AUC", "gAUC", "logloss")},
            "monitor": f"{run.monitor.get_value(result['valid']):.6f}",
            "best_epoch": _best_epoch(run, result),
            "epochs": result["epochs"],
            "train_seconds": f"{result['train_seconds']:.1f}",
            "commit": result.get("commit") or "",
            "torch": result["versions"].get("torch", ""),
            "hardware": result["hardware"]["device"],
            "date": result.get("date", ""),
        }
        return {key: str(value) for key, value in values.items()}


def configuration_hash(run: Run) -> str:
    """Return sixteen characters that change with what a run computes."""
    ignored = {*FREE_KEYS, DATA_CONTENT, "model_id"}
    text = json.dumps({key: value for key, value in as_text(run.params).items() if key not in ignored}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _best_epoch(run: Run, result: dict[str, Any]) -> int | str:
    points = [point for point in result["curve"] if point.get("monitor") == point.get("monitor")]
    if not points or "monitor" not in points[0]:
        return ""
    return (min if run.is_minimised else max)(points, key=lambda point: point["monitor"])["epoch"]
