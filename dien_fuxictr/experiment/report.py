"""`--report`: what a comparison needs of a run, as files: result.json and predictions.npz."""

import contextlib
import json
import os
import platform
import re
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.revision import revision

from .evaluation.evaluate import Evaluation
from .training.resume import Progress

PACKAGES = ("fuxictr", "torch", "numpy", "polars")


def cpu_name() -> str:
    """The processor, in its maker's words where the system has them."""
    cpuinfo = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.is_file() else None
    return named[1] if named else platform.processor() or platform.machine()


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of those packages that are installed; torch's names its build, as its metadata need not."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = str(torch.__version__) if name == "torch" else version(name)
    return found


class Report:
    """Observer of a training run that keeps its learning curves.

    Args:
        folder: receives the files once the run is over.
        zoo: the FuxiCTR checkout that the model is from, if it is from one.
    """

    def __init__(self, folder: Path, zoo: str | None = None) -> None:
        self.folder = folder
        # Now, as the code is loaded: a training is long enough to commit meanwhile.
        self.commits = {"commit": revision(Path(__file__).parents[2])}
        if zoo:
            self.commits["zoo_commit"] = revision(Path(zoo))
        self.curve: list[dict[str, float]] = []
        self._losses: list[dict[str, float]] = []

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Keep the losses of one step."""
        self._losses.append(losses)

    def evaluation(self, step: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]) -> None:
        """A point of the curves: mean losses since the last one, and validation metrics."""
        means = {
            f"loss/{name}": float(np.mean([losses[name] for losses in self._losses]))
            for name in ("train", "auxiliary")
            if self._losses and name in self._losses[0]
        }
        self.curve.append({"step": step, **means, **{f"validation/{name}": value for name, value in metrics.items()}})
        self._losses = []

    def close(self) -> None:
        """Nothing is open."""

    def save(
        self,
        model: BaseModel,
        params: dict[str, Any],
        progress: Progress,
        valid: Evaluation | None,
        test: Evaluation | None,
    ) -> None:
        """Write the files; result.json last, so that where it stands the report is whole.

        predictions.npz has `label` and `score` (N,) of the test rows and, where the data set has groups, `group` (N,).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if test:
            rows = {"label": test.label, "score": test.score}
            rows |= {"group": test.group} if test.group is not None else {}
            write_atomic(self.folder / "predictions.npz", partial(np.savez, **rows))
        device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else cpu_name()
        result = {
            "expid": params["model_id"],
            "model": params["model"],
            "dataset_id": params["dataset_id"],
            "seed": params["seed"],
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "valid": valid.metrics if valid else {},
            "test": test.metrics if test else {},
            "epochs": len(self.curve),
            "curve": self.curve,
            "train_rows": progress.train_rows,
            "train_seconds": progress.train_seconds,
            "inference_ms": test.milliseconds if test else None,
            "batch_size": params["batch_size"],
            "config": {key: repr(value) for key, value in params.items()},
            **self.commits,
            "versions": versions(PACKAGES),
            "hardware": {"device": device, "cpus": os.cpu_count(), "threads": torch.get_num_threads()},
        }
        write_atomic(self.folder / "result.json", lambda file: file.write(json.dumps(result, indent=2).encode()))
