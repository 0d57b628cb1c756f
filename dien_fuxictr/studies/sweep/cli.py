"""Command line of `run_param_tuner.py`."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.signals import starting
from dien_fuxictr.experiment.options import add_settings_options, positive_count

from ..runs.run_options import add_run_options, describe_runs

MANY = 10_000
"""Combinations above which a grid needs --yes."""
EPILOG = f"""
examples:
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --gpu 0 1     every combination, one at a time on two GPUs
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --workers 2   every combination, two at a time on the CPU
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --tag 003     only the third combination
  run_param_tuner.py --config config --tag DIEN_amazon_A                  experiments of a configuration folder
  run_param_tuner.py --config config/tuner/DIEN_amazon_tpe.yaml --search tpe --trials 10 --workers 2
                                                                          ten trials that Optuna's TPE sampler proposes
  run_param_tuner.py --config config/tuner/DIEN_amazon.yaml --cluster 10.0.0.1:6379      tasks of a Ray cluster

tuner file (the zoo's form):
  base_config: ./config/              folder of the experiment; or model_config and dataset_config in the file itself
  base_expid: DIEN_amazon
  dataset_id: amazon                  only to replace the experiment's
  tuner_space:                        a list: values to try; anything else: one value
      gru_type: [GRU, AUGRU]
      dnn_hidden_units: [[200, 80], [64]]
      learning_rate: {{low: 1.e-4, high: 1.e-2, log: True}}     a range, for --search tpe only
      embedding_dim: {{low: 8, high: 32}}                       whole numbers, as both ends are

  An equal budget for several experiments: base_expid may map each to what varies for it besides tuner_space,
      base_expid: {{DIN_amazon: {{}}, DIEN_amazon: {{aux_loss_alpha: [0.3, 1]}}}}
  Each experiment is a sweep of its own, as with a file SWEEP/ID.yaml, with its files in SWEEP/ID/. The sweeps run one
  after the other. At the end, the best run of each sweep is listed.

files (SWEEP the tuner file without .yaml, NAME its last part):
  SWEEP/model_config.yaml, dataset_config.yaml    the combinations: run_expid.py --config SWEEP --expid ID runs one
  SWEEP/runs/ID/curve.jsonl                       one line per evaluation, while a run trains
  SWEEP/runs/ID/result.json, predictions.npz      metrics and configuration; predictions on the test set
  SWEEP/logs/ID.log                               all that a run printed
  NAME.csv                                        the zoo's line of results per run
  NAME_leaderboard.csv                            the table at the end

{describe_runs("a sweep", "SWEEP")}

--search tpe (pip install optuna):
  Optuna's TPE sampler draws the values of each trial near those of good earlier trials, instead of trying every
  combination. From its second evaluation on, a trial that is worse than the median of the other trials at the same
  evaluation is stopped (pruned). --trials is the total: if you start the sweep again, finished and pruned trials count,
  interrupted trials continue, and failed trials are replaced. Several processes or machines may work on one sweep,
  started in the same folder, or each in its own folder with the same --storage; each folder then has its own runs.
  A changed tuner_space, or a changed key outside of it, starts a new sweep.
  SWEEP/study.journal                             the study, in Optuna's journal form
  SWEEP/model_config/ID.yaml, dataset_config/     the trials
  SWEEP/history.png, importance.png               values over trials, and which keys mattered (pip install matplotlib)

exit code: 0 all runs finished; 1 some runs failed, or even the best run has learnt nothing; 2 bad input (one line on
stderr); 130 after Ctrl-C, 143 after SIGTERM: all runs are stopped and their states are saved
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exit with code 2 on a wrong one."""
    parser = command_parser(
        "run_param_tuner.py", "Trains the combinations of a tuner file and ranks them by validation.", EPILOG
    )
    parser.add_argument(
        "--config",
        type=Path,
        required=True,
        metavar="PATH",
        help="tuner file (.yaml), or a folder of model_config and dataset_config",
    )
    parser.add_argument("--tag", metavar="TEXT", help="only ids that contain TEXT, e.g. 001 for the first combination")
    parser.add_argument(
        "--expids", nargs="+", default=[], metavar="ID", help="only these experiments, where base_expid maps several"
    )
    add_run_options(parser)
    parser.add_argument(
        "--search",
        choices=("grid", "tpe"),
        default="grid",
        help="grid: every combination (default); tpe: values that Optuna's TPE sampler proposes",
    )
    parser.add_argument(
        "--trials",
        type=positive_count,
        metavar="N",
        help="number of trials of --search tpe, including those of earlier calls; default 20",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database of the trials of --search tpe, sqlite:///FILE or postgresql://USER@HOST/NAME, which machines "
        "without a common disk may share; default SWEEP/study.journal",
    )
    parser.add_argument("--yes", action="store_true", help=f"train a grid of more than {MANY:,} combinations")
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    if options.search == "tpe" and options.tag:
        parser.error("--tag cannot be combined with --search tpe")
    if options.search == "grid" and options.trials is not None:
        parser.error("--trials needs --search tpe")
    if options.search == "grid" and options.storage:
        parser.error("--storage needs --search tpe")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sweep.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 1 if a run failed, else see `run_command`.
    """
    return run_command(
        lambda: _run(parse_arguments(arguments)), "interrupted; the same command continues with what is left"
    )


def _run(options: argparse.Namespace) -> int:
    with starting():
        from .run_sweep import run_sweep  # torch takes seconds: after `--help`
    return run_sweep(options, math.inf if options.yes else MANY)
