"""Command line of `run_comparison.py`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from dien_fuxictr.common.command_parser import as_called, command_parser
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.signals import starting
from dien_fuxictr.experiment.options import add_config_option, add_settings_options, positive_count

from ..runs.run_options import add_run_options, describe_runs

EPILOG = f"""
examples:
  run_comparison.py --dataset amazon --seeds 3                            every experiment on the embedded sample
  run_comparison.py --expids DIEN_amazon DIN_amazon --seeds 5 --workers 2
  run_comparison.py --tag _amazon_beauty --seeds 3 --gpu 0 1              two GPUs, one run at a time on each
  run_comparison.py --dataset amazon --zoo FuxiCTR --zoo-models DCN DIN   also models of a FuxiCTR checkout
  run_comparison.py --suite                                               list the suites of the configuration
  run_comparison.py --suite amazon --workers 2                            the comparison in config/suites/amazon.yaml
  run_comparison.py --suite amazon --expids DIN_amazon                    train only some experiments of the suite now
  run_comparison.py --suite amazon --cluster 10.0.0.1:6379                runs as tasks of a Ray cluster

files (OUT: --out, default comparisons/DATASET or comparisons/SUITE):
  OUT/table.md, table.csv        mean and standard deviation over the seeds, interval of the difference to the base
  OUT/report.html                the table with sortable columns, and pictures: AUC with error bars, AUC by history
                                 length and by item popularity, learning curves, calibration. One file that needs no
                                 network; the pictures need matplotlib (pip install matplotlib)
  OUT/results.json               each run with its configuration, commit, versions, hardware and learning curves
  OUT/suite.png, suite.svg       for a suite with x: AUC, or the difference to `against`, over a key that varies
  OUT/runs/EXPID_seedN/          curve.jsonl, one line per evaluation while a run trains; result.json, predictions.npz
  OUT/logs/EXPID_seedN.log       all that a run printed

{describe_runs("a comparison", "OUT")}

A suite names experiments, seeds or folds, the keys that vary, and a file with one row of results per finished run.
docs/guides/comparing.md lists its keys. Each fold, and each value of a build option that varies, gets its own data set,
such as DATASET_fold_1.

A row is ranked against the base only if the 95 % interval of its difference in AUC excludes 0. The interval covers the
noise of the test users and of the seeds. Two rows are ranked against each other only if their intervals do not overlap;
otherwise their place is a range. With one run per experiment the noise of the seeds is unknown, and nothing is ranked.
Two runs give very wide intervals, or none ("not enough seeds"): use three seeds or more.

exit code: 0 all runs finished; 1 some runs failed (the table has the others) or have learnt nothing (the table marks
them); 2 bad input; 130 after Ctrl-C, 143 after SIGTERM: the runs have saved their states
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; exit with code 2 on a wrong one."""
    parser = command_parser(
        "run_comparison.py", "Trains experiments over seeds and compares them on the test set.", EPILOG
    )
    add_config_option(parser)
    parser.add_argument(
        "--suite",
        nargs="?",
        const="",
        metavar="NAME",
        help="run the comparison of suites/NAME.yaml of the configuration, or of NAME, the path of a .yaml file; "
        "without a name: list the suites",
    )
    parser.add_argument(
        "--expids", nargs="+", default=[], metavar="ID", help="experiments to compare; with --suite, those to train now"
    )
    parser.add_argument("--dataset", metavar="ID", help="all experiments on this data set")
    parser.add_argument("--tag", metavar="TEXT", help="all experiments whose id contains TEXT")
    parser.add_argument(
        "--base", metavar="ID", help="experiment that the others are compared with; default EmbeddingMLP, or the first"
    )
    parser.add_argument(
        "--zoo", type=Path, metavar="DIR", help="FuxiCTR checkout, for --zoo-models and for models that are not here"
    )
    parser.add_argument(
        "--zoo-models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models of the checkout to add, as zoo_MODEL_DATASET, with the budget of the base",
    )
    parser.add_argument("--seeds", type=positive_count, metavar="N", help="runs of each experiment; default 1")
    add_run_options(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="end with exit code 0 even if a trained model is no better than the base rate; the table marks it",
    )
    add_settings_options(parser)
    options = parser.parse_args(arguments)
    for name in ("dataset", "tag", "base", "zoo", "zoo_models", "seeds"):
        if options.suite is not None and getattr(options, name):
            parser.error(
                f"--{name.replace('_', '-')} cannot be combined with --suite, whose file says what is compared"
            )
    if options.zoo_models and not options.zoo:
        parser.error("--zoo-models needs --zoo")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a comparison.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 1 if a run failed, else see `run_command`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    command = " ".join([as_called("python run_comparison.py"), *map(shlex.quote, given)])
    return run_command(
        lambda: _run(parse_arguments(arguments), command), "interrupted; the same command continues with what is left"
    )


def _run(options: argparse.Namespace, command: str) -> int:
    with starting():
        from .run_comparison import run_comparison  # torch takes seconds: after `--help`
    return run_comparison(options, command)
