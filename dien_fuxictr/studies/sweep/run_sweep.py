"""Run a sweep, as the command line of `run_param_tuner.py` asks."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError, fail
from dien_fuxictr.common.files import require_writable
from dien_fuxictr.common.lock import held
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.distributed.ray_runs import pool_of
from dien_fuxictr.distributed.run_pool import Pool
from dien_fuxictr.experiment.device import devices_of_runs
from dien_fuxictr.experiment.results import results_file

from ..runs.run import Run, load_runs, note_changed_code, require_inputs
from ..runs.run_progress import run_with_progress
from .grid import Tuner, read_tuners, require_own_folder, write_grid
from .leaderboard import build_leaderboard, rank_runs, render_table, write_csv

_SQLITE = "sqlite:///"


def run_sweep(options: argparse.Namespace, most: float) -> int:
    """Train what is left of a sweep and rank it.

    Args:
        options: options of the command line.
        most: combinations that a grid may have.

    Returns:
        Exit code: 1 if a run failed or even the best one has learnt nothing.

    Raises:
        UserError: the tuner file, the folder or an output is not what it must be.
    """
    devices = devices_of_runs(options.gpu, options.workers, options.cluster)
    settings = dict(options.settings)
    if options.config.is_dir():
        return _run_folder(options, settings, devices)
    tuners = _chosen(read_tuners(options.config, settings), options.expids)
    for tuner in tuners:
        require_own_folder(tuner)
        _require_writable(tuner.folder)
    if options.storage and options.storage.startswith(_SQLITE):
        require_output("--storage", Path(options.storage.removeprefix(_SQLITE)))
    # All are checked before the first one trains.
    if options.search == "tpe":
        started = [_prepare_tpe(tuner, options) for tuner in tuners]
    else:
        started = [_prepare_grid(tuner, options.tag, most) for tuner in tuners]
    with pool_of(options.cluster, devices) as pool:
        codes = [finish(pool) for finish in started]
    if tuners[0].subfolder:
        print("\n".join(["best by validation:", *map(_best, tuners)]))
    return max(codes)


def _run_folder(options: argparse.Namespace, settings: dict[str, Any], devices: list[int]) -> int:
    folder = options.config
    if options.search == "tpe":
        raise UserError(f"--search tpe needs a tuner file, but --config {folder} is a folder")
    if options.expids:
        raise UserError(f"--expids needs a tuner file, but --config {folder} is a folder; use --tag")
    _require_writable(folder)
    runs = load_runs(folder, options.tag, settings)
    require_inputs(_left(runs), folder)
    with pool_of(options.cluster, devices) as pool:
        return _train(runs, folder, pool)


def _chosen(tuners: list[Tuner], expids: Sequence[str]) -> list[Tuner]:
    """Return the tuners of the named base experiments, or all."""
    known = [tuner.base.params["model_id"] for tuner in tuners]
    if unknown := [expid for expid in expids if expid not in known]:
        raise UserError(f"--expids {unknown[0]} is unknown; base_expid of {tuners[0].file} has {', '.join(known)}")
    return [tuner for tuner, expid in zip(tuners, known, strict=True) if not expids or expid in expids]


def _prepare_grid(tuner: Tuner, tag: str | None, most: float) -> Callable[[Pool], int]:
    """Write and check a grid, and return a function that trains it."""
    write_grid(tuner, most)
    runs = load_runs(tuner.folder, tag)
    require_inputs(_left(runs), tuner.folder)
    return lambda pool: _train(runs, tuner.folder, pool)


def _train(runs: list[Run], folder: Path, pool: Pool) -> int:
    left = _left(runs)
    finished = len(runs) - len(left)
    print(f"{len(runs)} runs, {finished} finished already ({folder / 'runs'}); logs in {folder / 'logs'}")
    note_changed_code(runs)
    with held(folder / ".lock", f"sweep {folder}"):
        failed = run_with_progress(left, pool, finished)
    return _report(runs, folder, failed)


def _left(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.result is None]


def _prepare_tpe(tuner: Tuner, options: argparse.Namespace) -> Callable[[Pool], int]:
    """Check and open a TPE sweep, and return a function that runs it."""
    try:
        from .tpe import TpeSweep, draw_trials
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError("--search tpe needs a package that is not installed: pip install optuna") from error
    sweep = TpeSweep(tuner, options.trials or 20, options.storage)

    def run(pool: Pool) -> int:
        note_changed_code(sweep.runs())
        print(f"{sweep.summary()} so far ({sweep.place}); logs in {tuner.folder / 'logs'}")
        failed = sweep.run(pool)
        print(sweep.summary())
        code = _report(sweep.runs(), tuner.folder, failed)
        for picture in draw_trials(sweep.study, tuner.folder):
            print(picture)
        return code

    return run


def _best(tuner: Tuner) -> str:
    """Describe the best run of a sweep: its validation and the keys that varied."""
    runs = load_runs(tuner.folder)
    results = {run.expid: result for run in runs if (result := run.result)}
    expid = tuner.base.params["model_id"]
    if not (best := rank_runs(runs, results)):
        return f"  {expid}: no run in {tuner.folder / 'runs'} has finished"
    run = best[0]
    value = run.monitor.get_value(results[run.expid]["valid"])
    varied = [key for key, allowed in tuner.space.items() if len(allowed.examples) > 1]
    listed = ", ".join(f"{key} = {run.params[key]}" for key in varied)
    return f"  {expid}: {'+'.join(run.monitor.get_metrics())} {value:.6f} ({run.expid}), {listed}"


def _require_writable(folder: Path) -> None:
    require_writable(results_file(folder), append=True)  # by the runs
    require_writable(_leaderboard_file(folder))


def _leaderboard_file(folder: Path) -> Path:
    return Path(f"{results_file(folder).stem}_leaderboard.csv")


def _report(runs: list[Run], folder: Path, failed: list[str]) -> int:
    """Print the leaderboard and the runs that have failed, and return the exit code."""
    results = {run.expid: result for run in runs if (result := run.result)}
    if rows := build_leaderboard(runs, results):
        file = _leaderboard_file(folder)
        write_csv(rows, file)
        print(f"{render_table(rows)}\n{file}")
    if failed:
        return fail(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", 1)
    best = rank_runs(runs, results)[:1]
    if best and (reason := results[best[0].expid].get("untrained")):
        return fail(f"the best run, {best[0].expid}, has learnt nothing: {reason}", 1)
    return 0
