"""Train, evaluate or predict, as the command line of `run_expid.py` asks."""

import argparse
import logging
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from fuxictr.utils import print_to_json

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.common.files import require_writable
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.common.progress import say
from dien_fuxictr.common.summary_text import files_text
from dien_fuxictr.distributed.distributed_group import run_in_group
from dien_fuxictr.distributed.launcher import goes_on

from .configuration.config import Config
from .device import device_of_process, require_devices
from .evaluation.new_rows import output_path, write_scores
from .experiment import Experiment
from .logs import RunLog
from .process_group import ProcessGroup
from .report import Report
from .results import append_result, results_file
from .run_summary import metrics_table, settings_text
from .training.observer import Observer
from .training.tensorboard import TensorBoard
from .training.training_progress import TrainingProgress


def run_experiment(options: argparse.Namespace, read: Callable[[], Config], log: RunLog) -> int:
    """Run an experiment in this process, alone or as one of several.

    Args:
        options: options of the command line.
        read: returns the configuration; called once the processes have found each other.
        log: has been started.

    Returns:
        The exit code.

    Raises:
        UserError, TrainingError: as the steps of `Experiment`.
    """
    require_devices(options.gpu, None)
    return run_in_group(partial(_work, options, read, log), device_of_process(options.gpu))


def _work(options: argparse.Namespace, read: Callable[[], Config], log: RunLog, group: ProcessGroup) -> int:
    experiment = Experiment(config=read(), gpu=device_of_process(options.gpu), strict=options.strict, group=group)
    log.path = experiment.folder / f"{options.expid}.log"
    for warning in experiment.warnings:
        logging.warning(warning)
    logging.info("Params: " + print_to_json(experiment.params))
    if group.leads:
        say(settings_text(experiment.model_class, experiment.params))
        if options.predict or options.eval_only:
            say(f"  weights   {experiment.checkpoint}")
    if options.predict:
        out = output_path(options.out, options.expid)
        experiment.require_output("--out", out, {"--predict": options.predict})
        scores = experiment.predict(options.predict)
        say(f"  rows      {len(scores):,} in {options.predict}")
        write_scores(scores, options.predict, out, experiment.params)
        log.append_if_possible()
        print(files_text({"predictions": out, "log": log.file}))
    elif options.eval_only:
        experiment.require_checkpoint()
        data = experiment.prepare(rebuild=options.rebuild)
        trained = experiment.load()
        if group.leads:
            log.append_if_possible()
        evaluations = trained.evaluate(data)
        if group.leads:
            say("")
            print(metrics_table(evaluations), files_text({"log": log.file}), sep="\n\n")
    else:
        _train(options, experiment, log, group)
    return 0


def _train(options: argparse.Namespace, experiment: Experiment, log: RunLog, group: ProcessGroup) -> None:
    results = results_file(options.config)
    require_writable(results, append=True)
    zoo = experiment.options.zoo
    if options.report:
        require_output("--report", options.report, holds_own=True)
    report = Report(options.report, zoo) if options.report and group.leads else None
    observers: list[Observer] = [TrainingProgress(experiment.options.verbose)] if group.leads else []
    if report:
        observers.append(report)
    events: Path | None = None
    if options.tensorboard and group.count > 1 and experiment.options.embedding_sharding == "rows":
        raise UserError(
            "--tensorboard cannot be combined with embedding_sharding = rows and several processes: no process has "
            "the whole model"
        )
    if options.tensorboard and group.leads:
        events = experiment.folder / f"{options.expid}.tensorboard" / datetime.now().strftime("%Y%m%d-%H%M%S")
        observers.append(TensorBoard(events))
    data = experiment.prepare(rebuild=options.rebuild)
    resume = options.resume or goes_on(experiment.folder / f"{options.expid}.resume")
    open_log = partial(log.open_file, append=resume) if group.leads else lambda: None
    trained = experiment.fit(resume, observers, on_start=open_log)
    try:
        open_log()  # a resumed run that had finished took no step
        evaluations = trained.evaluate(data)
        valid = evaluations["valid"]  # `fit` has asked for it
        untrained = trained.nothing_learnt(valid, experiment.config.params)
        if report:
            test = evaluations.get("test")
            report.save(trained.model, experiment.config.params, trained.progress, valid, test, untrained)
        if group.leads:
            append_result(results, options.expid, experiment.params["dataset_id"], evaluations)
            files = {"weights": experiment.checkpoint, "log": log.file, "results": results, "tensorboard": events}
            say("")
            print(metrics_table(evaluations), files_text(files | {"report": options.report}), sep="\n\n")
        if untrained:
            line = f"the model has learnt nothing: {untrained}"
            if not options.allow_untrained:
                raise TrainingError(f"{line}; --allow-untrained ends such a run with exit code 0")
            logging.warning(line)
    except KeyboardInterrupt as error:
        raise type(error)("interrupted after training; --resume evaluates its weights") from error
