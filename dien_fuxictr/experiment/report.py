"""`--report`: a run as files: curve.jsonl, and then predictions.npz, result.json."""

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable, write_atomic
from dien_fuxictr.common.revision import revision

from .evaluation.evaluate import Evaluation
from .models import code_digest
from .training.observer import Observer
from .training.resume import Progress, as_text

PACKAGES = ("fuxictr", "torch", "numpy", "polars")
CURVE, PREDICTIONS, RESULT = "curve.jsonl", "predictions.npz", "result.json"


def cpu_name() -> str:
    """Return the name of the processor, the maker's if the system knows it."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return named[1] if named else platform.processor() or platform.machine()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed.

    torch's version has its build, which its metadata may lack.
    """
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = str(torch.__version__) if name == "torch" else version(name)
    return found


def read_curve(file: Path) -> list[dict[str, float]]:
    """Return the evaluations in curve.jsonl so far; incomplete lines are left out.

    Args:
        file: need not exist.

    Returns:
        One point per evaluation: its `step` and `epoch` (from 1); means since the last evaluation, or since the run was
        resumed (none if that was at the evaluation), of `loss/train`, `loss/target`, which is without auxiliary loss
        and regularisation, and, if the model has one, `loss/auxiliary`; `validation/METRIC`, and `monitor`, the value
        that decides on the run.
    """
    lines = file.read_bytes().split(b"\n")[:-1] if file.is_file() else []
    return [json.loads(line) for line in lines]


class Report(Observer):
    """Observer that writes learning curves during a training, and its result.

    A fresh run starts a new curve.jsonl at its first step. A resumed run continues it; evaluations that it will repeat
    are removed.

    Args:
        folder: receives the files.
        zoo: the FuxiCTR checkout of the model, if any.

    Raises:
        UserError: the files cannot be written.
    """

    def __init__(self, folder: Path, zoo: str | None = None) -> None:
        self.folder = folder
        # Read when the code is loaded: a commit may follow during a training.
        self.commits = {"commit": revision(Path(__file__).parents[2])}
        if zoo:
            self.commits["zoo_commit"] = revision(Path(zoo))
        self._curve = folder / CURVE
        for name in (CURVE, PREDICTIONS, RESULT):
            require_writable(folder / name)
        self._begun = False
        self._losses: list[dict[str, float]] = []

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Keep the losses of one step."""
        if not self._begun:
            points = [point for point in read_curve(self._curve) if point["step"] < step]
            write_atomic(self._curve, lambda file: file.writelines(map(_line, points)))
            self._begun = True
        self._losses.append(losses)

    def evaluation(
        self, step: int, epoch: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]
    ) -> None:
        """Append a point, see `read_curve`.

        Raises:
            UserError: the file cannot be written.
        """
        means = {
            f"loss/{name}": float(np.mean([losses[name] for losses in self._losses]))
            for name in ("train", "target", "auxiliary")
            if self._losses and name in self._losses[0]
        }
        validation = {f"validation/{name}": value for name, value in metrics.items()}
        monitor = model._monitor.get_value(metrics)
        try:
            with open(self._curve, "ab") as file:
                file.write(_line({"step": step, "epoch": epoch, **means, **validation, "monitor": monitor}))
        except OSError as error:
            raise UserError(f"cannot write {self._curve}: {error.strerror}") from error
        self._losses = []

    def save(
        self,
        model: BaseModel,
        params: dict[str, Any],
        progress: Progress,
        valid: Evaluation | None,
        test: Evaluation | None,
        untrained: str = "",
    ) -> None:
        """Write the files; result.json last, so that a report with it is complete.

        predictions.npz has `label` and `score` (N,) of the test rows and, where the data set has groups, `group` (N,).
        `untrained`, why the model has learnt nothing, is in result.json only if it has not.
        """
        if test:
            rows = {"label": test.label, "score": test.score}
            rows |= {"group": test.group} if test.group is not None else {}
            write_atomic(self.folder / PREDICTIONS, partial(np.savez, **rows))
        curve = read_curve(self._curve)
        device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else cpu_name()
        result = {
            "expid": params["model_id"],
            "model": params["model"],
            "model_code": code_digest(type(model)),
            "dataset_id": params["dataset_id"],
            "seed": params["seed"],
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "valid": valid.metrics if valid else {},
            "test": test.metrics if test else {},
            "epochs": curve[-1]["epoch"] if curve else 0,
            "curve": curve,
            "train_rows": progress.train_rows,
            "train_seconds": progress.train_seconds,
            "inference_ms": test.milliseconds if test else None,
            "batch_size": params["batch_size"],
            "config": as_text(params),
            "date": f"{datetime.now(timezone.utc).date()}",
            **self.commits,
            "versions": versions(PACKAGES),
            "hardware": {"device": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads()},
        }
        if untrained:
            result["untrained"] = untrained
        write_atomic(self.folder / RESULT, lambda file: file.write(json.dumps(result, indent=2).encode()))


def _line(point: dict[str, float]) -> bytes:
    return json.dumps(point).encode() + b"\n"
