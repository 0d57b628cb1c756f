"""The command line of `run_expid.py`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import fuxictr
from fuxictr.utils import print_to_json

from dien_fuxictr.common.errors import exit_code
from dien_fuxictr.common.files import require_writable

from .configuration.config import Config, load_config
from .evaluation.new_rows import output_path, write_scores
from .experiment import Experiment
from .logs import RunLog
from .options import add_experiment_options
from .report import Report
from .results import append_result, results_file
from .training.observer import Observer
from .training.tensorboard import TensorBoard

EPILOG = """
examples:
  run_expid.py --expid DIEN_amazon                      build the data set if need be, train, evaluate
  run_expid.py --expid DIEN_amazon --gpu 0              the same on the first GPU
  run_expid.py --expid DIEN_amazon --show-config        print the merged configuration and where each key comes from
  run_expid.py --expid DIEN_amazon --resume             go on with an interrupted run
  run_expid.py --expid DIEN_amazon --eval-only          metrics of the stored checkpoint
  run_expid.py --expid DIEN_amazon --predict new.csv --out scores.csv

files (model_root and dataset_id of the configuration, ID the experiment id):
  <model_root>/<dataset_id>/ID.model                    best weights (state_dict)
  <model_root>/<dataset_id>/ID.resume                   state of an interrupted run
  <model_root>/<dataset_id>/ID.log                      log
  <model_root>/<dataset_id>/ID.tensorboard/             events of --tensorboard
  <name of the config folder>.csv                       one line of results a run, in the working directory

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 1 training cannot go on, or an error of the
program (the line names the file with its traceback); 130 after Ctrl-C, 143 after SIGTERM: the state of a training is
saved, --resume goes on with it
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="run_expid.py",
        description="Trains and evaluates one experiment of the zoo.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment_options(parser)
    parser.add_argument("--strict", action="store_true", help="an unknown key in the configuration is an error")
    parser.add_argument("--rebuild", action="store_true", help="build the data set anew where its inputs have changed")
    parser.add_argument(
        "--tensorboard", action="store_true", help="log losses, metrics, attention and gates beside the checkpoint"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="write learning curves there while it trains, then metrics, timings and test predictions",
    )
    parser.add_argument(
        "--out", type=Path, metavar="CSV", help="where --predict writes; default ID_predictions.csv, if there is none"
    )
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--show-config", action="store_true", help="print the merged configuration and stop")
    mode.add_argument(
        "--resume", action="store_true", help="continue an interrupted run: same weights as without the interruption"
    )
    mode.add_argument("--eval-only", action="store_true", help="print validation and test metrics of the checkpoint")
    mode.add_argument(
        "--predict",
        type=Path,
        metavar="FILE",
        help="score the rows of a .csv, .csv.gz or .parquet file with the checkpoint; no label needed",
    )
    options = parser.parse_args(arguments)
    if options.out and not options.predict:
        parser.error("--out goes with --predict")
    for name in ("report", "tensorboard"):
        if getattr(options, name) and (options.eval_only or options.predict):
            parser.error(f"--{name} goes with a training, not with --eval-only or --predict")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `exit_code`.
    """
    options, log = parse_arguments(arguments), RunLog()
    return exit_code(lambda: _run(options, log), "interrupted; nothing was saved", lambda: log.path)


def _run(options: argparse.Namespace, log: RunLog) -> int:
    config = load_config(options.config, options.expid, dict(options.settings))
    if options.show_config:
        print(config.render())
        for warning in config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        return 0
    log.start()
    try:
        _run_experiment(options, config, log)
    finally:
        log.close()
    return 0


def _run_experiment(options: argparse.Namespace, config: Config, log: RunLog) -> None:
    logging.info(f"FuxiCTR version: {fuxictr.__version__}")
    experiment = Experiment(config, options.gpu, options.strict)
    log.path = experiment.folder / f"{options.expid}.log"
    for warning in experiment.warnings:
        logging.warning(warning)
    logging.info("Params: " + print_to_json(experiment.params))
    if options.predict:
        out = output_path(options.out, options.predict, options.expid)
        scores = experiment.predict(options.predict)
        write_scores(scores, options.predict, out, experiment.params)
        log.append_if_possible()
    elif options.eval_only:
        experiment.prepare(rebuild=options.rebuild)
        experiment.load()
        log.append_if_possible()
        experiment.evaluate()
    else:
        _train(options, experiment, log)


def _train(options: argparse.Namespace, experiment: Experiment, log: RunLog) -> None:
    results = results_file(options.config)
    require_writable(results, append=True)
    zoo = experiment.params.get("zoo")
    report = Report(options.report, zoo) if options.report else None
    observers: list[Observer] = [report] if report else []
    if options.tensorboard:
        events = experiment.folder / f"{options.expid}.tensorboard" / datetime.now().strftime("%Y%m%d-%H%M%S")
        observers.append(TensorBoard(events))
    experiment.prepare(rebuild=options.rebuild)
    open_log = partial(log.open_file, append=options.resume)
    experiment.fit(options.resume, observers, on_start=open_log)
    try:
        open_log()  # a resumed run that had finished took no step
        evaluations = experiment.evaluate()
        if report:
            assert experiment.progress
            valid, test = evaluations.get("valid"), evaluations.get("test")
            report.save(experiment.model, experiment.config.params, experiment.progress, valid, test)
        append_result(results, options.expid, experiment.params["dataset_id"], evaluations)
    except KeyboardInterrupt as error:
        raise type(error)("interrupted after training; --resume evaluates its weights") from error
