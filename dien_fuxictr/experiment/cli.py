"""Command line of `run_expid.py`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dien_fuxictr.common.command_parser import command_parser
from dien_fuxictr.common.errors import fail, run_command
from dien_fuxictr.common.progress import say
from dien_fuxictr.common.signals import starting
from dien_fuxictr.distributed.launcher import check_launch, is_launched, is_leader, launch

from .logs import RunLog
from .options import add_cluster_option, add_experiment_options

EPILOG = """
examples:
  run_expid.py --expid DIEN_amazon                      build the data set if needed, train, evaluate
  run_expid.py --expid DIEN_amazon --gpu 0              train on the first GPU
  run_expid.py --expid DIEN_amazon --show-config        print the merged configuration and where each key comes from
  run_expid.py --expid DIEN_amazon --resume             continue an interrupted run
  run_expid.py --expid DIEN_amazon --workers 2          train one model in two processes
  run_expid.py --expid DIEN_amazon --workers 16 --cluster 10.0.0.1:6379
                                                        run them on a Ray cluster whose machines share a disk
  torchrun --nproc-per-node 2 -m dien_fuxictr.experiment --expid DIEN_amazon
                                                        start the processes by your own launcher
  run_expid.py --expid DIEN_amazon --eval-only          metrics of the stored checkpoint
  run_expid.py --expid DIEN_amazon --predict new.csv --out scores.csv

files (model_root and dataset_id of the configuration, ID the experiment id):
  <model_root>/<dataset_id>/ID.model                    best weights (state_dict)
  <model_root>/<dataset_id>/ID.previous.model           best weights of the run before
  <model_root>/<dataset_id>/ID.resume                   state of an interrupted run
  <model_root>/<dataset_id>/ID.log                      the log; --verbose shows its lines on stderr too
  <model_root>/<dataset_id>/ID.tensorboard/             events of --tensorboard
  <name of the config folder>.csv                       one line of results per run, in the working directory

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 1 training cannot continue, the trained model
has learnt nothing, or an internal error (the line names the file with its traceback); 130 after Ctrl-C, 143
after SIGTERM: the state of a training is saved, --resume continues it
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exit with code 2 on a wrong one."""
    parser = command_parser("run_expid.py", "Train and evaluate one experiment of the zoo.", EPILOG)
    add_experiment_options(parser)
    parser.add_argument("--verbose", action="store_true", help="show the lines of the log on stderr too")
    parser.add_argument(
        "--strict", action="store_true", help="refuse unknown keys in the configuration; default: warn of them"
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="train one model in N processes of this machine, on the CPU or on one GPU each, from --gpu on; equal "
        "to one process except for float32 rounding, so results vary as between seeds; if a process is killed, all "
        "resume; default 1",
    )
    add_cluster_option(parser, "run the processes of --workers", "ray[train]")
    parser.add_argument(
        "--rebuild", action="store_true", help="build the data set again, if its inputs or options have changed"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write TensorBoard curves of losses and metrics, and histograms of attention and gates, next to "
        "the checkpoint",
    )
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="end with exit code 0 even if the trained model is no better than the base rate on validation",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write learning curves into this folder during the training, then metrics, timings and test predictions",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="CSV",
        help="file that --predict writes; default ID_predictions.csv, which must not exist",
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--show-config", action="store_true", help="print the merged configuration and stop")
    mode.add_argument(
        "--resume",
        action="store_true",
        help="continue an interrupted run; the final weights equal those without the interruption",
    )
    mode.add_argument(
        "--eval-only", action="store_true", help="evaluate the checkpoint on validation and test data, without training"
    )
    mode.add_argument(
        "--predict",
        type=Path,
        metavar="FILE",
        help="score the rows of a .csv, .csv.gz or .parquet file with the checkpoint; no label needed",
    )
    options = parser.parse_args(arguments)
    if options.out and not options.predict:
        parser.error("--out needs --predict")
    for name in ("report", "tensorboard", "allow_untrained"):
        if getattr(options, name) and (options.eval_only or options.predict):
            parser.error(f"--{name.replace('_', '-')} cannot be combined with --eval-only or --predict")
    if options.workers is not None and options.predict:
        parser.error("--workers cannot be combined with --predict")
    if options.cluster and options.workers is None:
        parser.error("--cluster needs --workers")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `run_command`.
    """
    given, log = sys.argv[1:] if arguments is None else arguments, RunLog()
    return run_command(
        lambda: _run(parse_arguments(given), given, log), "interrupted; nothing was saved", lambda: log.path, _tell
    )


def _tell(message: str, code: int) -> int:
    """Print how the command has ended; of several processes only the leader prints."""
    return code if code in (130, 143) and not is_leader() else fail(message, code)


def _run(options: argparse.Namespace, arguments: Sequence[str], log: RunLog) -> int:
    from .configuration.config import load_config

    read = cache(lambda: load_config(options.config, options.expid, dict(options.settings)))
    if is_leader():
        config = read()  # errors of the configuration are reported first, and by one of several processes
        if options.show_config:
            print(config.render())
            for warning in config.warnings:
                print(f"warning: {warning}", file=sys.stderr)
    if options.show_config:
        return 0
    if options.workers is not None and not is_launched():
        check_launch(options.workers)
        if options.cluster:
            with starting():
                from dien_fuxictr.distributed.ray_training import launch_on_ray
            return launch_on_ray(options.cluster, options.workers, options.gpu, main, arguments)
        if options.workers > 1:
            with starting():
                from .device import require_devices
            require_devices(options.gpu, options.workers)
            return launch(options.workers, main, arguments)
    log.start(options.verbose)
    try:
        if not is_leader():
            logging.disable(logging.WARNING)
        else:
            config = read().params
            say(f"{options.expid}: {config.get('model')} on data set {config['dataset_id']}")
        logging.info(f"FuxiCTR version: {version('fuxictr')}")
        with starting(tells=is_leader()):
            from .run_experiment import run_experiment  # torch takes seconds: the first line comes before it
        return run_experiment(options, read, log)
    finally:
        log.close()
