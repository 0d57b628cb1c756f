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

from dien_fuxictr.common.cluster import add_cluster_option
from dien_fuxictr.common.errors import TrainingError, UserError, exit_code
from dien_fuxictr.common.files import require_writable
from dien_fuxictr.common.outputs import require_output

from .configuration.config import Config, load_config
from .device import device_of_worker, require_devices
from .evaluation.new_rows import output_path, write_scores
from .experiment import Experiment
from .logs import RunLog
from .options import add_experiment_options
from .parallel.group import work_together
from .parallel.launch import check_launch, goes_on, is_launched, launch
from .parallel.on_ray import INSTALL, launch_on_ray
from .parallel.workers import Workers
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
  run_expid.py --expid DIEN_amazon --workers 2          the same model, trained by two processes
  run_expid.py --expid DIEN_amazon --workers 16 --cluster 10.0.0.1:6379
                                                        the same on the machines of a Ray cluster, which share a disk
  torchrun --nproc-per-node 2 run_expid.py --expid DIEN_amazon
                                                        the same, by your own launcher
  run_expid.py --expid DIEN_amazon --eval-only          metrics of the stored checkpoint
  run_expid.py --expid DIEN_amazon --predict new.csv --out scores.csv

files (model_root and dataset_id of the configuration, ID the experiment id):
  <model_root>/<dataset_id>/ID.model                    best weights (state_dict)
  <model_root>/<dataset_id>/ID.previous.model           those of the run before, which a new run has replaced
  <model_root>/<dataset_id>/ID.resume                   state of an interrupted run
  <model_root>/<dataset_id>/ID.log                      log
  <model_root>/<dataset_id>/ID.tensorboard/             events of --tensorboard
  <name of the config folder>.csv                       one line of results a run, in the working directory

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 1 training cannot go on, the trained model
has learnt nothing, or an error of the program (the line names the file with its traceback); 130 after Ctrl-C, 143
after SIGTERM: the state of a training is saved, --resume goes on with it
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
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="train one model in N processes of this machine, with the numbers of one: on the CPU, or on the GPUs "
        "from --gpu on, one each; a worker that is killed resumes",
    )
    add_cluster_option(parser, "the workers are", INSTALL)
    parser.add_argument("--rebuild", action="store_true", help="build the data set anew where its inputs have changed")
    parser.add_argument(
        "--tensorboard", action="store_true", help="log losses, metrics, attention and gates beside the checkpoint"
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
    for name in ("report", "tensorboard", "allow_untrained"):
        if getattr(options, name) and (options.eval_only or options.predict):
            parser.error(f"--{name.replace('_', '-')} goes with a training, not with --eval-only or --predict")
    if options.workers is not None and options.predict:
        parser.error("--workers goes with a training or --eval-only, not with --predict")
    if options.cluster and options.workers is None:
        parser.error("--cluster goes with --workers")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code, see `exit_code`.
    """
    options, log = parse_arguments(arguments), RunLog()
    given = sys.argv[1:] if arguments is None else arguments
    return exit_code(lambda: _run(options, given, log), "interrupted; nothing was saved", lambda: log.path)


def _run(options: argparse.Namespace, arguments: Sequence[str], log: RunLog) -> int:
    count = None if is_launched() or options.show_config else options.workers
    if count is not None:
        check_launch(count)
    if not options.show_config and not (count is not None and options.cluster):
        require_devices(options.gpu, count)
    if count is not None and (count > 1 or options.cluster):
        load_config(options.config, options.expid, dict(options.settings))  # what is wrong there is said at once
        if options.cluster:
            return launch_on_ray(options.cluster, count, options.gpu, main, arguments)
        return launch(count, main, arguments)
    return work_together(partial(_work, options, log), device_of_worker(options.gpu))


def _work(options: argparse.Namespace, log: RunLog, workers: Workers) -> int:
    config = load_config(options.config, options.expid, dict(options.settings))
    if options.show_config:
        if workers.leads:
            print(config.render())
            for warning in config.warnings:
                print(f"warning: {warning}", file=sys.stderr)
        return 0
    log.start()
    if not workers.leads:
        logging.disable(logging.WARNING)
    try:
        _run_experiment(options, config, log, workers)
    finally:
        log.close()
    return 0


def _run_experiment(options: argparse.Namespace, config: Config, log: RunLog, workers: Workers) -> None:
    logging.info(f"FuxiCTR version: {fuxictr.__version__}")
    experiment = Experiment(config, device_of_worker(options.gpu), options.strict, workers)
    log.path = experiment.folder / f"{options.expid}.log"
    for warning in experiment.warnings:
        logging.warning(warning)
    logging.info("Params: " + print_to_json(experiment.params))
    if options.predict:
        out = output_path(options.out, options.expid)
        experiment.require_output("--out", out, {"--predict": options.predict})
        scores = experiment.predict(options.predict)
        write_scores(scores, options.predict, out, experiment.params)
        log.append_if_possible()
    elif options.eval_only:
        experiment.require_checkpoint()
        experiment.prepare(rebuild=options.rebuild)
        experiment.load()
        if workers.leads:
            log.append_if_possible()
        experiment.evaluate()
    else:
        _train(options, experiment, log, workers)


def _train(options: argparse.Namespace, experiment: Experiment, log: RunLog, workers: Workers) -> None:
    results = results_file(options.config)
    require_writable(results, append=True)
    zoo = experiment.params.get("zoo")
    if options.report:
        require_output("--report", options.report, holds_own=True)
    report = Report(options.report, zoo) if options.report and workers.leads else None
    observers: list[Observer] = [report] if report else []
    if options.tensorboard and workers.count > 1 and experiment.params.get("embedding_sharding") == "rows":
        raise UserError(
            "--tensorboard does not go with embedding_sharding: rows and several workers: one alone cannot look into "
            "the model"
        )
    if options.tensorboard and workers.leads:
        events = experiment.folder / f"{options.expid}.tensorboard" / datetime.now().strftime("%Y%m%d-%H%M%S")
        observers.append(TensorBoard(events))
    experiment.prepare(rebuild=options.rebuild)
    resume = options.resume or goes_on(experiment.folder / f"{options.expid}.resume")
    open_log = partial(log.open_file, append=resume) if workers.leads else lambda: None
    experiment.fit(resume, observers, on_start=open_log)
    try:
        open_log()  # a resumed run that had finished took no step
        evaluations = experiment.evaluate()
        valid = evaluations["valid"]  # `fit` has asked for it
        untrained = experiment.nothing_learnt(valid)
        if report:
            assert experiment.progress
            test = evaluations.get("test")
            report.save(experiment.model, experiment.config.params, experiment.progress, valid, test, untrained)
        if workers.leads:
            append_result(results, options.expid, experiment.params["dataset_id"], evaluations)
        if untrained:
            line = f"the model has learnt nothing: {untrained}"
            if not options.allow_untrained:
                raise TrainingError(f"{line}; --allow-untrained ends such a run with exit code 0")
            logging.warning(line)
    except KeyboardInterrupt as error:
        raise type(error)("interrupted after training; --resume evaluates its weights") from error
