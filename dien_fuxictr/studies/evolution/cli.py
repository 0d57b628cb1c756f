"""Command line of `run_evolution.py`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.signals import starting
from dien_fuxictr.experiment.options import add_experiment_options

MOST = 10
"""Candidates on one page, each with its letter and colour."""
EPILOG = """
examples:
  run_expid.py --expid DIEN_amazon                           first train: the data set and the checkpoint are used
  run_evolution.py --expid DIEN_amazon                       a user and candidates that show something
  run_evolution.py --expid DIEN_amazon --user A00040SYNTH    a user of the test data
  run_evolution.py --expid DIEN_amazon --user A00040SYNTH --items B3355SYNTH B9961SYNTH --out pages

Without --user, the page shows the first clicked test row whose history is nearest to 20 behaviours. With --user, it
shows the user's clicked test row with the longest history.
Without --items, the candidates are the target of the row, the most frequent item of the category that dominates the
history, and the most frequent item of a category that is not in the history.
All candidates have the features of the row, except the target. Of several behaviour sequences, the first is drawn.

files (OUT: --out, default <model_root>/<dataset_id>/ID.evolution beside the checkpoint):
  OUT/evolution.html     a page for a browser: paths of the second layer's state in two principal components, attention
  OUT/evolution.json     the numbers of the page, and the model's prediction for each candidate

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 130 after Ctrl-C
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exit with code 2 on a wrong one."""
    parser = command_parser(
        "run_evolution.py",
        "Draws how a user's interest evolves towards candidate items in a trained DIEN, step by step.",
        EPILOG,
    )
    add_experiment_options(parser, "a trained DIEN")
    parser.add_argument("--user", metavar="ID", help="user of the test data; by default one is chosen")
    parser.add_argument("--items", nargs="+", metavar="ID", help="ids of candidate items; by default some are chosen")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the page")
    options = parser.parse_args(arguments)
    if len(options.items or []) > MOST:
        parser.error(f"--items has {len(options.items)} ids; one page has at most {MOST}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw one user.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `run_command`.
    """
    return run_command(lambda: _run(parse_arguments(arguments)), "interrupted; nothing was written")


def _run(options: argparse.Namespace) -> int:
    with starting():
        from dien_fuxictr.experiment.experiment import open_experiment

        from .evolution import NUMBERS, PAGE, draw_evolution  # torch takes seconds: after `--help`
    experiment = open_experiment(options.expid, options.config, options.gpu, dict(options.settings))
    out = options.out or experiment.folder / f"{options.expid}.evolution"
    if options.out:
        experiment.require_output("--out", out)
    numbers = draw_evolution(experiment, out, options.user, options.items or ())
    steps, candidates = len(numbers["behaviours"]), len(numbers["paths"]) - 1
    print(
        f"user {numbers['user']}, {steps} behaviour{'s' * (steps != 1)}, {candidates} candidates: "
        f"{out / PAGE}, {out / NUMBERS}"
    )
    return 0
