"""One run of a comparison or sweep: its process, files and results."""

import json
import sys
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fuxictr.utils import Monitor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.distributed.run_pool import Job
from dien_fuxictr.experiment.configuration.config import BASE, merge, read_files
from dien_fuxictr.experiment.configuration.overrides import as_arguments
from dien_fuxictr.experiment.configuration.paths import resolve_paths
from dien_fuxictr.experiment.contract import check_configuration
from dien_fuxictr.experiment.models import code_digest, find_model
from dien_fuxictr.experiment.report import CURVE, RESULT, read_curve
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.resume import is_same


@dataclass(frozen=True)
class Run:
    """An experiment of a comparison or sweep.

    Attributes:
        expid: experiment id in the configuration folder.
        params: its merged configuration.
        config: that folder.
        folder: of the comparison or sweep: the run's files are in `runs/EXPID/`, what it prints in `logs/EXPID.log`.
        settings: replace values of the configuration folder, as `--set` does; `params` has them already.
    """

    expid: str
    params: dict[str, Any]
    config: Path
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """Return the folder of its files."""
        return self.folder / "runs" / self.expid

    @property
    def curve(self) -> Path:
        """Return the file with its evaluations so far."""
        return self.report / CURVE

    @property
    def monitor(self) -> Monitor:
        """Return the monitor, the metrics that rank validation."""
        return monitor_for(self.params)

    @property
    def is_minimised(self) -> bool:
        """Return whether a smaller value of the monitor is better."""
        return self.params.get("monitor_mode") == "min"

    @property
    def result(self) -> dict[str, Any] | None:
        """Return result.json, if the run has finished with this very configuration."""
        file = self.report / RESULT
        if not file.is_file():
            return None
        result = json.loads(file.read_text(encoding="utf-8"))
        return result if is_same(result["config"], self.params) else None

    def job(self) -> Job:
        """Return the job that continues this interrupted run, or starts it."""
        goes_on = self._can_go_on()
        if not goes_on:
            self.curve.unlink(missing_ok=True)  # otherwise it would be mistaken for this run's until the first step
        arguments = ["--config", str(self.config), "--expid", self.expid, "--report", str(self.report)]
        arguments.append("--allow-untrained")  # the study marks such a run, and continues
        arguments += as_arguments(self.settings)
        log = self.folder / "logs" / f"{self.expid}.log"
        return Job(
            name=self.expid,
            arguments=[*arguments, "--resume"] if goes_on else arguments,
            log=log,
            goes_on=goes_on,
        )

    def _can_go_on(self) -> bool:
        """Return whether there is a state of this configuration, and its curve."""
        state = Path(self.params["model_root"], self.params["dataset_id"], f"{self.expid}.resume")
        if not (state.is_file() and self.curve.is_file()):
            return False
        try:
            saved = checkpoint.load(state)
        except UserError:
            return False
        return "progress" in saved and is_same(saved.get("config", {}), self.params)


def note_changed_code(runs: Iterable[Run]) -> None:
    """Print a line on runs that have finished with other code of their model, to stderr."""
    code_of = lru_cache(lambda model, zoo: code_digest(find_model(model, zoo)))
    changed = [
        run
        for run in runs
        if (code := (run.result or {}).get("model_code"))  # runs of earlier versions have none
        and code != code_of(run.params["model"], run.params.get("zoo"))
    ]
    if changed:
        print(
            f"note: the code of {', '.join(sorted({run.params['model'] for run in changed}))} has changed since these "
            f"runs: {', '.join(run.expid for run in changed)}; their results stand as they are. To train them again, "
            f"delete their folders in {changed[0].report.parent}",
            file=sys.stderr,
        )


def load_runs(folder: Path, tag: str | None = None, settings: dict[str, Any] | None = None) -> list[Run]:
    """Load the experiments of a configuration folder, in the order of its files.

    Args:
        folder: as of `run_expid.py --config`; the runs' files are in it too.
        tag: only ids that contain it; None: all.
        settings: replace values of the folder.

    Raises:
        UserError: no such experiment, a broken file, a value that is not allowed, or a monitor that is not
            among the metrics.
    """
    models, datasets = read_files(folder, "model_config"), read_files(folder, "dataset_config")
    expids = [expid for experiments in models.values() for expid in experiments if expid != BASE]
    chosen = [expid for expid in expids if tag is None or tag in expid]
    if not chosen:
        raise UserError(f"--tag {tag} matches no experiment of {folder}; there are {', '.join(expids[:3])}, ...")
    runs = []
    for expid in chosen:
        config = merge(models, datasets, folder, expid, settings)
        check_configuration(deepcopy(config.params), config.where)
        check_monitor(expid, config.params)
        runs.append(Run(expid=expid, params=config.params, config=folder, folder=folder, settings=settings or {}))
    return runs


def check_monitor(expid: str, params: dict[str, Any]) -> None:
    """Check that the run can be ranked.

    Raises:
        UserError: a monitor that is not among the metrics.
    """
    missing = set(monitor_for(params).get_metrics()) - set(params["metrics"])
    if missing:
        raise UserError(
            f"{', '.join(sorted(missing))} is missing in metrics of {expid}; it is the monitor that ranks the runs"
        )


def require_inputs(runs: Iterable[Run], folder: Path) -> None:
    """Check that the files exist that the runs' data sets are read or built from.

    Args:
        runs: runs that are about to start.
        folder: the configuration folder that the user named; relative paths are also searched for next to it.

    Raises:
        UserError: a file is missing; the message lists the tried paths.
    """
    for run in runs:
        resolve_paths(deepcopy(run.params), folder)


def monitor_for(params: dict[str, Any]) -> Monitor:
    """Return the monitor of a configuration, the metrics that rank validation."""
    return Monitor(params.get("monitor", "AUC"))


class Curve:
    """The points of a run, read while it writes them.

    Args:
        file: curve.jsonl; need not exist yet.

    Attributes:
        points: see `read_curve`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._size = 0
        self.points: list[dict[str, float]] = []

    def update(self) -> bool:
        """Read on; return whether there was anything new."""
        size = self._file.stat().st_size if self._file.exists() else 0
        if size == self._size:
            return False
        self._size, self.points = size, read_curve(self._file)
        return bool(self.points)
