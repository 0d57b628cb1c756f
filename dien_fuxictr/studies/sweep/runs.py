"""The runs of a configuration folder, and what those that are finished have scored."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuxictr.utils import Monitor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.config import BASE, merge_dataset, merge_model, read_files
from dien_fuxictr.experiment.configuration.values import check_values

# The zoo's line of results; of a line that a kill has cut short nothing matches.
_LINE = re.compile(
    r"\[exp_id\] ([^\[\],]+),\[dataset_id\] [^\[\]]*,\[train\] [^\[\]]*,\[val\] ([^\[\]]*),\[test\] ([^\[\]]*)$"
)


@dataclass(frozen=True)
class Run:
    """One experiment of a sweep.

    Attributes:
        expid: experiment id.
        params: its merged configuration.
    """

    expid: str
    params: dict[str, Any]

    @property
    def state(self) -> Path:
        """Where an interrupted run has left its state."""
        return Path(self.params["model_root"], self.params["dataset_id"], f"{self.expid}.resume")

    @property
    def monitor(self) -> Monitor:
        """What validation is judged by."""
        return Monitor(self.params.get("monitor", "AUC"))


@dataclass(frozen=True)
class Result:
    """Metrics of a finished run, by name."""

    valid: dict[str, float]
    test: dict[str, float]


def load_runs(folder: Path, tag: str | None) -> list[Run]:
    """The experiments of a configuration folder, in the order of its files.

    Args:
        folder: as of `run_expid.py --config`.
        tag: only ids that contain it; None: all.

    Raises:
        UserError: no such experiment, a broken file, a value that is not allowed, or a monitor that is not
            among the metrics.
    """
    models, datasets = read_files(folder, "model_config"), read_files(folder, "dataset_config")
    expids = [expid for experiments in models.values() for expid in experiments if expid != BASE]
    chosen = [expid for expid in expids if tag is None or tag in expid]
    if not chosen:
        raise UserError(f"--tag {tag}: no experiment of {folder} has it; there are {', '.join(expids[:3])}, ...")
    runs = []
    for expid in chosen:
        config = merge_model(models, folder, expid)
        merge_dataset(config, datasets)
        check_values(config.params, config.origin.__getitem__)
        runs.append(Run(expid, config.params))
        check_monitor(runs[-1])
    return runs


def check_monitor(run: Run) -> None:
    """Check that the run can be ranked.

    Raises:
        UserError: a monitor that is not among the metrics.
    """
    missing = set(run.monitor.get_metrics()) - set(run.params["metrics"])
    if missing:
        raise UserError(f"{run.expid}: metrics lacks {', '.join(sorted(missing))}, the monitor that ranks the runs")


def results_file(folder: Path) -> Path:
    """Where `run_expid.py` appends the results of a configuration folder: in the working directory."""
    return Path(f"{os.path.basename(os.path.abspath(folder))}.csv")


def read_results(folder: Path) -> dict[str, Result]:
    """Experiment id -> its last result."""
    file = results_file(folder)
    if not file.exists():
        return {}
    lines = map(_LINE.search, file.read_text(encoding="utf-8").splitlines())
    return {found[1]: Result(parse_metrics(found[2]), parse_metrics(found[3])) for found in lines if found}


def parse_metrics(text: str) -> dict[str, float]:
    """Metrics by name, of the zoo's `AUC: 0.800000 - logloss: 0.300000`."""
    pairs = (part.rsplit(": ", 1) for part in text.split(" - ") if part)
    return {name: float(value) for name, value in pairs}
