"""The command line of `run_expid.py`."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import fuxictr
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import print_to_json, print_to_list

from dien_fuxictr.common.errors import UserError, exit_code
from dien_fuxictr.dataset.loading.checks import check_encoded
from dien_fuxictr.dataset.loading.fingerprint import Fingerprint
from dien_fuxictr.dataset.loading.prepare import prepare_dataset

from .configuration.config import Config, load_config
from .configuration.keys import check_keys
from .configuration.paths import find_config, resolve_paths
from .configuration.values import check_values
from .device import device_index
from .evaluation.evaluate import Evaluation, evaluate
from .evaluation.predict_file import output_path, predict_file
from .logs import RunLog
from .models import build_model, find_model, load_feature_map
from .report import Report
from .training import checkpoint
from .training.allocator import keep_freed_memory
from .training.sparse_tables import update_sparsely
from .training.tensorboard import TensorBoard
from .training.trainer import Trainer

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

exit code: 0 done; 2 bad input (one line on stderr, nothing overwritten); 1 training cannot go on; 130 interrupted
"""


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="run_expid.py",
        description="Trains and evaluates one experiment of the zoo.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=find_config,
        default="./config/",
        metavar="DIR",
        help="folder of model_config and dataset_config; default ./config/, or else the one that comes with the code",
    )
    parser.add_argument("--expid", default="DIEN_amazon", metavar="ID", help="experiment id; default DIEN_amazon")
    parser.add_argument("--gpu", type=int, default=-1, metavar="N", help="index of the GPU, -1 for the CPU (default)")
    parser.add_argument("--strict", action="store_true", help="an unknown key in the configuration is an error")
    parser.add_argument("--rebuild", action="store_true", help="build the data set anew where its inputs have changed")
    parser.add_argument(
        "--tensorboard", action="store_true", help="log losses, metrics, attention and gates beside the checkpoint"
    )
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write metrics, curves, timings and test predictions there"
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
        help="score the rows of a CSV or Parquet file with the checkpoint; no label needed",
    )
    options = parser.parse_args(arguments)
    if options.out and not options.predict:
        parser.error("--out goes with --predict")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one experiment.

    Args:
        arguments: the command line without the program's name; None: the process's.

    Returns:
        Exit code: 0, 1 for a `TrainingError`, 2 for bad input or a full disk, 130 when interrupted.
    """
    options = parse_arguments(arguments)
    return exit_code(lambda: _run(options), "interrupted; --resume continues from the last checkpoint")


def _run(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.expid)
    if options.show_config:
        print(config.render())
        for warning in config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        return 0
    log = RunLog()
    try:
        _run_experiment(options, config, log)
    finally:
        log.close()
    return 0


def _run_experiment(options: argparse.Namespace, config: Config, log: RunLog) -> None:
    keep_freed_memory()
    logging.info(f"FuxiCTR version: {fuxictr.__version__}")
    check_values(config.params, config.origin.__getitem__)
    model_class = find_model(config.params["model"], config.params.get("zoo"))
    params = deepcopy(config.params)
    warnings = config.warnings + check_keys(config, model_class, options.strict) + resolve_paths(params, options.config)
    params["gpu"] = device_index(options.gpu, warnings)
    for warning in warnings:
        logging.warning(warning)
    logging.info("Params: " + print_to_json(params))
    run_folder = Path(params["model_root"], params["dataset_id"])
    open_log = partial(log.open_file, run_folder / f"{options.expid}.log")
    observers: list[TensorBoard | Report] = []
    if options.report:
        observers.append(Report(options.report, config.params.get("zoo")))
    if options.tensorboard:
        events = run_folder / f"{options.expid}.tensorboard" / datetime.now().strftime("%Y%m%d-%H%M%S")
        observers.append(TensorBoard(events))
    if params.get("num_threads"):
        torch.set_num_threads(params["num_threads"])
    seed_everything(seed=params["seed"])

    if options.predict:
        out = output_path(options.out, options.expid)
        model = build_model(model_class, load_feature_map(params), params)
        checkpoint.load_weights(model, Path(model.checkpoint))
        predict_file(model, options.predict, out, params)
        open_log(append=True)
        return
    params = prepare_dataset(params, rebuild=options.rebuild)
    feature_map = load_feature_map(params)
    check_encoded(feature_map, params)
    logging.info("Feature specs: " + print_to_json(feature_map.features))
    model = build_model(model_class, feature_map, params)
    if options.eval_only:
        checkpoint.load_weights(model, Path(model.checkpoint))
        open_log(append=True)
        _, valid_loader = _loaders(feature_map, "train", params)
        _evaluate_both(model, valid_loader, params)
        return
    open_log = partial(open_log, append=options.resume)
    trainer, valid_loader = _train(options, config, params, model, open_log, observers)
    open_log()  # a resumed run that had finished took no step
    valid, test = _evaluate_both(model, valid_loader, params)
    for observer in observers:
        if isinstance(observer, Report):
            observer.save(model, config.params, trainer.progress, valid, test)
    _append_result(options, params["dataset_id"], valid, test)


def _train(
    options: argparse.Namespace,
    config: Config,
    params: dict[str, Any],
    model: BaseModel,
    on_start: Callable[[], None],
    observers: list[TensorBoard | Report],
) -> tuple[Trainer, Any]:
    """Fit the model; returns the trainer and the validation loader. The training data are free again afterwards."""
    if params.get("embedding_updates") == "sparse":
        update_sparsely(model)
    trainer = Trainer(
        model,
        max_gradient_norm=params.get("max_gradient_norm", 10.0),
        config={**config.params, "content of the data set": _data_content(params)},
        on_start=on_start,
        observers=observers,
    )
    if options.resume:
        trainer.resume()
    train_loader, valid_loader = _loaders(model.feature_map, "train", params)
    if valid_loader is None:
        raise UserError(f"data set {params['dataset_id']} has no valid_data: training needs a validation set")
    trainer.fit(train_loader, valid_loader, epochs=params.get("epochs", 1))
    for observer in observers:
        observer.close()
    return trainer, valid_loader


def _loaders(feature_map: FeatureMap, stage: str, params: dict[str, Any]) -> Any:
    """The zoo's function, whose result depends on the stage: train gives two loaders, test one."""
    return RankDataLoader(feature_map, stage=stage, **params)


def _data_content(params: dict[str, Any]) -> dict[str, str]:
    """Digests of the files that the data set was built from: a run cannot be resumed on other data."""
    fingerprint = Fingerprint.load(Path(params["data_root"], params["dataset_id"]))
    return {role: seen["blake2b"] for role, seen in fingerprint.inputs.items()} if fingerprint else {}


def _evaluate_both(
    model: BaseModel, valid_loader: Any, params: dict[str, Any]
) -> tuple[Evaluation | None, Evaluation | None]:
    valid, test = None, None
    if valid_loader is not None:
        logging.info("****** Validation evaluation ******")
        valid = evaluate(model, valid_loader, params["metrics"])
    if params.get("test_data"):
        logging.info("******** Test evaluation ********")
        test_loader = _loaders(model.feature_map, "test", params)
        test = evaluate(model, test_loader, params["metrics"])
    return valid, test


def _append_result(
    options: argparse.Namespace, dataset_id: str, valid: Evaluation | None, test: Evaluation | None
) -> None:
    """One line in the zoo's form to `<name of the config folder>.csv` in the working directory."""
    file = Path(f"{Path(os.path.abspath(options.config)).name.replace('.yaml', '')}.csv")
    try:
        with open(file, "a+", encoding="utf-8") as results:
            results.write(
                f" {datetime.now():%Y%m%d-%H%M%S},[command] python {' '.join(sys.argv)},[exp_id] {options.expid},"
                f"[dataset_id] {dataset_id},[train] N.A.,[val] {print_to_list(valid.metrics if valid else {})},"
                f"[test] {print_to_list(test.metrics if test else {})}\n"
            )
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
