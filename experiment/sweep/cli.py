"""The command line of `run_param_tuner.py`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError

from .grid import write_grid
from .leaderboard import leaderboard, render, write_csv
from .runs import Run, load_runs, read_results, results_file
from .workers import Job, run_with_progress

EPILOG = """
examples:
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu 0 1     every combination, one at a time on two GPUs
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu -1 -1   the same, two at a time on the CPU
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --tag 003     only the third combination
  run_param_tuner.py --config config --tag DIEN_amazon_A                  experiments of a configuration folder

tuner file (the zoo's form):
  base_config: ./config/              folder of the experiment; or model_config and dataset_config in the file itself
  base_expid: DIEN_amazon
  dataset_id: amazon                  only to replace the experiment's
  tuner_space:                        a list: values to try; anything else: one value
      gru_type: [GRU, AUGRU]
      dnn_hidden_units: [[200, 80], [64]]

files (SWEEP the tuner file without .yaml, NAME its last part):
  SWEEP/model_config.yaml, dataset_config.yaml    the combinations: run_expid.py --config SWEEP --expid ID runs one
  SWEEP/logs/ID.log                               all that a run printed
  NAME.csv                                        a line of results a run; an id in it is finished and not run again
  NAME_leaderboard.csv                            the table at the end

Run again, a sweep skips what is finished and goes on with what was interrupted. An id changes with its configuration.
To train a finished one anew, delete its line in NAME.csv and its files below model_root.

exit code: 0 all runs finished; 1 some failed; 2 bad input (one line on stderr); 130 interrupted, no run goes on
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="run_param_tuner.py",
        description="Trains every combination of a tuner file and ranks them by validation.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, metavar="PATH",
                        help="tuner file (.yaml), or a folder of model_config and dataset_config")  # fmt: skip
    parser.add_argument("--tag", metavar="TEXT", help="only ids that contain it, e.g. 001 for the first combination")
    parser.add_argument("--gpu", type=int, nargs="+", default=[-1], metavar="N",
                        help="a worker for each index; -1 is the CPU; default one on the CPU")  # fmt: skip
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 0, 1 if a run failed, 2 for bad input, 130 when interrupted.
    """
    options = parse_arguments(arguments)
    try:
        return _run(options)
    except UserError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on with what is left", 130)


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _run(options: argparse.Namespace) -> int:
    folder: Path = options.config if options.config.is_dir() else write_grid(options.config)
    runs = load_runs(folder, options.tag)
    done = read_results(folder)
    jobs = {run.expid: _job(run, folder) for run in runs if run.expid not in done}
    finished = len(runs) - len(jobs)
    print(f"{len(runs)} runs, {finished} finished already ({results_file(folder)}); logs in {folder / 'logs'}")
    failed = run_with_progress(jobs, options.gpu, finished)
    rows = leaderboard(runs, read_results(folder))
    if rows:
        file = Path(f"{results_file(folder).stem}_leaderboard.csv")
        write_csv(rows, file)
        print(f"{render(rows)}\n{file}")
    if failed:
        return _fail(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", 1)
    return 0


def _job(run: Run, folder: Path) -> Job:
    arguments = ["--config", str(folder), "--expid", run.expid]
    return Job([*arguments, "--resume"] if run.state.exists() else arguments, folder / "logs" / f"{run.expid}.log")
