"""The command line of `run_param_tuner.py`."""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dien_fuxictr.common.cluster import add_cluster_option
from dien_fuxictr.common.errors import UserError, exit_code, fail
from dien_fuxictr.common.files import require_writable
from dien_fuxictr.common.lock import held
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.experiment.device import devices_of_runs
from dien_fuxictr.experiment.options import add_settings_options
from dien_fuxictr.experiment.results import results_file

from ..runs.on_ray import INSTALL, pool_of
from ..runs.pool import Pool
from ..runs.progress import run_with_progress
from ..runs.run import Run, require_inputs
from .grid import MANY, Tuner, read_tuners, require_own_folder, write_grid
from .leaderboard import leaderboard, ranked, render, write_csv
from .lines import take_over
from .runs import load_runs

_SQLITE = "sqlite:///"
EPILOG = """
examples:
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu 0 1     every combination, one at a time on two GPUs
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu -1 -1   the same, two at a time on the CPU
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --tag 003     only the third combination
  run_param_tuner.py --config config --tag DIEN_amazon_A                  experiments of a configuration folder
  run_param_tuner.py --config config/tuner/DIEN_amazon_tpe.yaml --search tpe --trials 10 --gpu -1 -1
                                                                          ten that Optuna's TPE sampler proposes
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --cluster 10.0.0.1:6379      tasks of a Ray cluster

tuner file (the zoo's form):
  base_config: ./config/              folder of the experiment; or model_config and dataset_config in the file itself
  base_expid: DIEN_amazon
  dataset_id: amazon                  only to replace the experiment's
  tuner_space:                        a list: values to try; anything else: one value
      gru_type: [GRU, AUGRU]
      dnn_hidden_units: [[200, 80], [64]]
      learning_rate: {low: 1.e-4, high: 1.e-2, log: True}     a range, for --search tpe only
      embedding_dim: {low: 8, high: 32}                       whole numbers, as both ends are

  An equal budget for several experiments: base_expid may map each to what varies for it besides tuner_space,
      base_expid: {DIN_amazon: {}, DIEN_amazon: {aux_loss_alpha: [0.3, 1]}}
  Each is a sweep of its own, as that of a file SWEEP/ID.yaml, with its files in SWEEP/ID/; one follows the other, and
  the end tells the best of each.

files (SWEEP the tuner file without .yaml, NAME its last part):
  SWEEP/model_config.yaml, dataset_config.yaml    the combinations: run_expid.py --config SWEEP --expid ID runs one
  SWEEP/runs/ID/curve.jsonl                       a line an evaluation, while a run trains
  SWEEP/runs/ID/result.json, predictions.npz      its metrics and configuration; predictions on the test set
  SWEEP/logs/ID.log                               all that a run printed
  NAME.csv                                        the zoo's line of results a run
  NAME_leaderboard.csv                            the table at the end

Run again, a sweep skips the runs whose result.json is of the same configuration, and goes on with those interrupted. Of
runs without files in SWEEP/runs, an earlier version's say, the line in NAME.csv is the result. To train a finished run
anew, delete both. While runs train, stderr shows the last epoch and the best value of the monitor of each.

On a cluster all machines share the working directory, SWEEP and the folders of data sets and checkpoints, at the same
paths. A run whose task is killed, or whose machine is lost, goes on from its state elsewhere.

--search tpe (pip install optuna):
  Instead of every combination, trials whose values are drawn where earlier ones were good. A trial that at its second
  or a later evaluation is worse than the median of the others there is ended (pruned). --trials is the total: run
  again, what is finished or pruned counts, what was interrupted goes on, what has failed is replaced. Several processes
  or machines may work on one study, called in the same folder, or each in one of its own with the same --storage: then
  each has the runs of its own folder, and goes on with those of its own. An experiment that was edited, in another key
  than those searched, or another tuner_space begins another.
  SWEEP/study.journal                             the study, in Optuna's journal form
  SWEEP/model_config/ID.yaml, dataset_config/     the trials
  SWEEP/history.png, importance.png               values over trials, and which keys mattered (pip install matplotlib)

exit code: 0 all runs finished; 1 some failed, or even the best run has learnt nothing; 2 bad input (one line on
stderr); 130 after Ctrl-C, 143 after SIGTERM: no run goes on, their states are saved
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="run_param_tuner.py",
        description="Trains the combinations of a tuner file and ranks them by validation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="PATH",
        help="tuner file (.yaml), or a folder of model_config and dataset_config",
    )
    parser.add_argument("--tag", metavar="TEXT", help="only ids that contain it, e.g. 001 for the first combination")
    parser.add_argument(
        "--expids", nargs="+", default=[], metavar="ID", help="only these of the experiments that base_expid maps"
    )
    parser.add_argument(
        "--gpu",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="a worker for each index, -1 is the CPU; default one on the CPU; without a GPU all are on the CPU; of "
        "--cluster any GPU for each, and all its CPUs by default",
    )
    add_cluster_option(parser, "each run is a task", INSTALL)
    parser.add_argument(
        "--search",
        choices=("grid", "tpe"),
        default="grid",
        help="every combination (default), or those that Optuna proposes",
    )
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="how many --search tpe tries, those of earlier calls included; default 20",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="the study of --search tpe is in this database, sqlite:///FILE or postgresql://USER@HOST/NAME, which "
        "machines without a common disk may share; default SWEEP/study.journal",
    )
    parser.add_argument("--yes", action="store_true", help=f"train a grid of more than {MANY:,} combinations")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.search == "tpe" and options.tag:
        parser.error("--tag goes with a grid, not with --search tpe")
    if options.search == "grid" and options.trials is not None:
        parser.error("--trials goes with --search tpe")
    if options.search == "grid" and options.storage:
        parser.error("--storage goes with --search tpe")
    if options.trials is not None and options.trials < 1:
        parser.error(f"--trials {options.trials}: must be at least 1")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 1 if a run failed, else see `exit_code`.
    """
    options = parse_arguments(arguments)
    return exit_code(lambda: _run(options), "interrupted; the same command goes on with what is left")


def _run(options: argparse.Namespace) -> int:
    options.gpu = devices_of_runs(options.gpu, options.cluster)
    settings = dict(options.settings)
    if options.config.is_dir():
        return _run_folder(options, settings)
    tuners = _chosen(read_tuners(options.config, settings), options.expids)
    for tuner in tuners:
        require_own_folder(tuner)
        _require_writable(tuner.folder)
    if options.storage and options.storage.startswith(_SQLITE):
        require_output("--storage", Path(options.storage.removeprefix(_SQLITE)))
    run = _search if options.search == "tpe" else _grid
    started = [run(tuner, options) for tuner in tuners]  # all are checked before the first one trains
    with pool_of(options.cluster, options.gpu) as pool:
        codes = [finish(pool) for finish in started]
    if tuners[0].subfolder:
        print("\n".join(["best by validation:", *map(_best, tuners)]))
    return max(codes)


def _run_folder(options: argparse.Namespace, settings: dict[str, Any]) -> int:
    folder = options.config
    if options.search == "tpe":
        raise UserError(f"--search tpe needs a tuner file, but --config {folder} is a folder")
    if options.expids:
        raise UserError(f"--expids needs a tuner file, but --config {folder} is a folder; --tag chooses of it")
    _require_writable(folder)
    runs = load_runs(folder, options.tag, settings)
    if not settings:
        _take_over(runs, folder, "; whether they are of these configurations is not known")
    require_inputs(_left(runs), folder)
    with pool_of(options.cluster, options.gpu) as pool:
        return _train(runs, folder, pool)


def _chosen(tuners: list[Tuner], expids: Sequence[str]) -> list[Tuner]:
    """Those of the named base experiments, or all."""
    known = [tuner.base.params["model_id"] for tuner in tuners]
    if unknown := [expid for expid in expids if expid not in known]:
        raise UserError(f"--expids {unknown[0]}: base_expid of {tuners[0].file} has {', '.join(known)}")
    return [tuner for tuner, expid in zip(tuners, known, strict=True) if not expids or expid in expids]


def _grid(tuner: Tuner, options: argparse.Namespace) -> Callable[[Pool], int]:
    """Write and check a grid; what is returned trains it."""
    write_grid(tuner, math.inf if options.yes else MANY)
    runs = load_runs(tuner.folder, options.tag)
    _take_over(runs, tuner.folder)
    require_inputs(_left(runs), tuner.folder)
    return lambda pool: _train(runs, tuner.folder, pool)


def _train(runs: list[Run], folder: Path, pool: Pool) -> int:
    left = _left(runs)
    finished = len(runs) - len(left)
    print(f"{len(runs)} runs, {finished} finished already ({folder / 'runs'}); logs in {folder / 'logs'}")
    with held(folder / ".lock", f"sweep {folder}"):
        failed = run_with_progress(left, pool, finished)
    return _report(runs, folder, failed)


def _left(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.result is None]


def _search(tuner: Tuner, options: argparse.Namespace) -> Callable[[Pool], int]:
    """Check and open a search; what is returned runs it."""
    try:
        from .plots import draw
        from .search import Search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError("--search tpe needs a package that is not installed: pip install optuna") from error
    search = Search(tuner, options.trials or 20, options.storage)
    _take_over(search.runs(), tuner.folder)

    def run(pool: Pool) -> int:
        print(f"{search.summary()} so far ({search.place}); logs in {tuner.folder / 'logs'}")
        failed = search.run(pool)
        print(search.summary())
        code = _report(search.runs(), tuner.folder, failed)
        for picture in draw(search.study, tuner.folder):
            print(picture)
        return code

    return run


def _best(tuner: Tuner) -> str:
    """The best run of a sweep: its validation and what has varied."""
    runs = load_runs(tuner.folder)
    results = {run.expid: result for run in runs if (result := run.result)}
    expid = tuner.base.params["model_id"]
    if not (best := ranked(runs, results)):
        return f"  {expid}: no run in {tuner.folder / 'runs'} has finished"
    run = best[0]
    value = run.monitor.get_value(results[run.expid]["valid"])
    varied = [key for key, allowed in tuner.space.items() if len(allowed.examples) > 1]
    listed = ", ".join(f"{key} = {run.params[key]}" for key in varied)
    return f"  {expid}: {'+'.join(run.monitor.get_metrics())} {value:.6f} ({run.expid}), {listed}"


def _require_writable(folder: Path) -> None:
    require_writable(results_file(folder), append=True)  # by the runs
    require_writable(_leaderboard_file(folder))


def _take_over(runs: list[Run], folder: Path, caution: str = "") -> None:
    file = results_file(folder)
    if count := take_over(runs, file):
        print(f"{count} results taken from {file}, as {folder / 'runs'} had nothing of these runs{caution}")


def _leaderboard_file(folder: Path) -> Path:
    return Path(f"{results_file(folder).stem}_leaderboard.csv")


def _report(runs: list[Run], folder: Path, failed: list[str]) -> int:
    """The leaderboard, and which runs have failed."""
    results = {run.expid: result for run in runs if (result := run.result)}
    if rows := leaderboard(runs, results):
        file = _leaderboard_file(folder)
        write_csv(rows, file)
        print(f"{render(rows)}\n{file}")
    if failed:
        return fail(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", 1)
    best = ranked(runs, results)[:1]
    if best and (reason := results[best[0].expid].get("untrained")):
        return fail(f"the best run, {best[0].expid}, has learnt nothing: {reason}", 1)
    return 0
