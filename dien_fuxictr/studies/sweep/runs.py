"""The runs of a configuration folder."""

from copy import deepcopy
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.configuration.config import BASE, merge, read_files
from dien_fuxictr.experiment.contract import check_configuration

from ..runs.run import Run, monitor_of


def load_runs(folder: Path, tag: str | None = None, settings: dict[str, Any] | None = None) -> list[Run]:
    """The experiments of a configuration folder, in the order of its files.

    Args:
        folder: as of `run_expid.py --config`; the runs' files are in it too.
        tag: only ids that contain it; None: all.
        settings: what takes the place of the folder's values.

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
        config = merge(models, datasets, folder, expid, settings)
        check_configuration(deepcopy(config.params), config.where)
        check_monitor(expid, config.params)
        runs.append(Run(expid, config.params, folder, folder, settings or {}))
    return runs


def check_monitor(expid: str, params: dict[str, Any]) -> None:
    """Check that the run can be ranked.

    Raises:
        UserError: a monitor that is not among the metrics.
    """
    missing = set(monitor_of(params).get_metrics()) - set(params["metrics"])
    if missing:
        raise UserError(f"{expid}: metrics lacks {', '.join(sorted(missing))}, the monitor that ranks the runs")
