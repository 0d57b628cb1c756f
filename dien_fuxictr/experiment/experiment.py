"""One experiment from configuration to predictions: `run_expid.py` for Python."""

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.lock import held
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.common.package_data import find_config
from dien_fuxictr.dataset.loading.entry import DatasetEntry
from dien_fuxictr.dataset.loading.fingerprint import Fingerprint
from dien_fuxictr.dataset.loading.prepare import prepare_dataset

from .configuration.config import Config, load_config
from .configuration.paths import resolve_paths
from .configuration.training_options import TrainingOptions
from .contract import check_configuration
from .device import device_index, keep_freed_memory
from .evaluation.evaluate import Evaluation
from .models import build_model, find_model, load_feature_map
from .prepared_data import PreparedData
from .process_group import SINGLE_PROCESS, ProcessGroup
from .trained_model import TrainedModel
from .training.checkpoint import require_intact
from .training.observer import Observer
from .training.resume import DATA_CONTENT, check_weights, read_mark
from .training.trainer import Trainer
from .training.training_progress import TrainingProgress
from .training.weight_store import WeightStore
from .training_setup import prepare_training


def open_experiment(
    expid: str = "DIEN_amazon",
    config: str | Path = "./config/",
    gpu: int = -1,
    overrides: dict[str, Any] | None = None,
    *,
    set: None = None,
) -> "Experiment":
    """Open an experiment of a configuration folder; nothing is built or written yet.

        run = open_experiment("DIEN_amazon", overrides={"epochs": 3})
        run.fit()
        run.evaluate()["test"].metrics
        run.predict(frame)

    Args:
        expid: experiment id.
        config: folder of model_config and dataset_config; for ./config/, where there is none, the one that comes with
            the code.
        gpu: index of the GPU, -1 for the CPU.
        overrides: key -> value that replaces the configuration's, as `--set` of the command lines.
        set: the former name of `overrides`, refused.

    Raises:
        UserError: no such folder, experiment, data set, model, input file or GPU; a key or value that is not allowed.
    """
    if set is not None:
        raise UserError("open_experiment(set=...) is unknown; it is named overrides=... now")
    experiment = Experiment(config=load_config(find_config(config), expid, overrides), gpu=gpu)
    for warning in experiment.warnings:
        logging.warning(warning)
    return experiment


class Experiment:
    """A checked configuration, and the way from it to data and to a trained model.

    `prepare` gives the data, `fit` or `load` the trained model; `evaluate` and `predict` take the last one, or that of
    the checkpoint. Paths are the zoo's: weights are `<model_root>/<dataset_id>/<expid>.model`. Opening sets the
    process's number of threads to the configuration's `num_threads`, where it has one.

    Args:
        config: result of `load_config`.
        gpu: index of the GPU, -1 for the CPU.
        strict: an unknown key is an error.
        group: the processes that train it together, each with an experiment like this.

    Raises:
        UserError: as of `open_experiment`.

    Attributes:
        config: as it was read.
        model_class: class of the model.
        options: options of training and evaluation.
        entry: entry of the data set, paths resolved.
        params: all keys, for the zoo; paths resolved.
        warnings: what the user should know.
        folder: where the run's files are.
    """

    def __init__(
        self, config: Config, gpu: int = -1, strict: bool = False, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        self.config = config
        self.group = group
        self.params = deepcopy(config.params)
        self.warnings = [*config.warnings, *check_configuration(self.params, config.where, strict)]
        self.options = TrainingOptions.of(self.params)
        group.follow(self.options.aux_negative_scope, self.options.sync_batch_norm)
        self.model_class = find_model(self.options.model, self.options.zoo)
        self.warnings += resolve_paths(self.params, config.folder)
        self.params["gpu"] = device_index(gpu)
        if not group.leads:
            self.params["verbose"] = 0
        self.entry = DatasetEntry.of(self.params)
        self.folder = Path(self.options.model_root, self.entry.dataset_id)
        self._data: PreparedData | None = None
        self._store: WeightStore | None = None
        self._trained: TrainedModel | None = None
        keep_freed_memory()
        if self.options.num_threads:
            torch.set_num_threads(self.options.num_threads)

    @property
    def expid(self) -> str:
        """Return the experiment id."""
        return self.params["model_id"]

    @property
    def checkpoint(self) -> Path:
        """Return the file of the best weights."""
        return self.folder / f"{self.expid}.model"

    @property
    def model(self) -> BaseModel:
        """Return the model; before `fit` and `load` with the seed's initial weights."""
        return self._initial_or_trained().model

    def prepare(self, rebuild: bool = False) -> PreparedData:
        """Build the data set if need be, and check what is there.

        Args:
            rebuild: build it again if its inputs have changed.

        Raises:
            UserError: anything wrong with the data; a set that was built from something else.
        """
        if self._data is None:
            with self.group.leader_first():
                prepared = prepare_dataset(self.entry, rebuild=rebuild and self.group.leads)
            self._data = PreparedData(self.params | prepared)
        return self._data

    def fit(
        self,
        resume: bool = False,
        observers: Sequence[Observer] | None = None,
        on_start: Callable[[], None] = lambda: None,
    ) -> TrainedModel:
        """Train from the seed's initial weights, and load the best by validation.

        Args:
            resume: continue an interrupted run instead.
            observers: watch losses and evaluations; by default `TrainingProgress`, unless `verbose` is 0.
            on_start: called after the first step.

        Raises:
            TrainingError: a loss or gradient is not finite, or no evaluation has a number as monitor.
            UserError: another process trains this experiment, there is no validation data or nothing to resume, or a
                file cannot be written.
        """
        if observers is None:
            shows = self.group.leads and self.options.verbose
            observers = [TrainingProgress(self.options.verbose)] if shows else []
        lock = held(self.folder / f".{self.expid}.lock", f"expid {self.expid}")
        with lock if self.group.leads else contextlib.nullcontext(), contextlib.ExitStack() as stack:
            for observer in observers:
                stack.callback(observer.close)
            trainer = self.trainer(on_start=on_start, observers=observers)
            if resume:
                trainer.resume()
            train_loader, valid_loader = self.prepare().train_loaders(trainer.model.feature_map)
            trainer.fit(train_loader, valid_loader, epochs=self.options.epochs)
        self._trained = TrainedModel(
            store=trainer.store, params=self.params, progress=trainer.progress, valid_loader=valid_loader
        )
        return self._trained

    def require_finished(self, allow_unfinished: bool = False) -> None:
        """Check that the training of the checkpoint has finished; warn if unknown.

        Args:
            allow_unfinished: only warn of an unfinished training, too.

        Raises:
            UserError: there is no checkpoint, or its training is unfinished.
        """
        self.require_checkpoint()
        mark = read_mark(self.checkpoint)
        if not mark or (mark.finished and not mark.weights):
            state = self.checkpoint.with_suffix(".resume")
            logging.warning(
                f"checkpoint {self.checkpoint}: whether its training has finished is unknown, as {state} "
                + ("has no digest of it" if mark else "does not exist")
            )
        elif not mark.finished:
            unfinished = f"the training that writes checkpoint {self.checkpoint} has not finished"
            if not allow_unfinished:
                raise UserError(
                    f"{unfinished}: wait for its end, continue it with run_expid.py --expid {self.expid} --resume, "
                    "or take the checkpoint as it is with --allow-unfinished"
                )
            logging.warning(unfinished)

    def require_checkpoint(self) -> None:
        """Raise UserError if there is no checkpoint."""
        if not self.checkpoint.is_file():
            raise UserError(f"checkpoint {self.checkpoint} does not exist; run_expid.py --expid {self.expid} trains it")

    def load(self) -> TrainedModel:
        """Load the weights of the checkpoint, with the built data set only.

        The inputs of the data set may no longer exist.

        Raises:
            UserError: there is no data set or no checkpoint, the checkpoint does not match the model, or it or the
                data set was changed after training.
        """
        self.require_checkpoint()
        check_weights(self.checkpoint, self._data_content())
        store, is_alone = self._store, self.group.count == 1
        if store is None or (is_alone and store.is_sharded):
            store = self._build_store(sharded=not is_alone)
        store.read_weights(self.checkpoint)
        store.model.eval()
        self._store, self._trained = store, TrainedModel(store=store, params=self.params)
        return self._trained

    def evaluate(self) -> dict[str, Evaluation]:
        """Return the metrics of `valid` and `test`, of those that the data set has.

        Raises:
            UserError: as of `prepare`, `load` and `TrainedModel.evaluate`.
            TrainingError: a score is not finite.
        """
        if self._trained is None:
            self.require_checkpoint()
        data = self.prepare()
        return (self._trained or self.load()).evaluate(data)

    def predict(self, rows: Any) -> np.ndarray:
        """Return scores of new rows; see `TrainedModel.predict`.

        Raises:
            UserError: as of `load` and `TrainedModel.predict`.
            TrainingError: a score is not finite.
        """
        return (self._trained or self.load()).predict(rows)

    def require_output(self, option: str, path: Path, inputs: Mapping[str, Path] | None = None) -> None:
        """Check that a command may write, or overwrite, a path that a user names.

        The path must not belong to this experiment or its data.

        Args:
            option: option that names it, for the message.
            path: the file or folder; need not exist.
            inputs: name -> further files that the command reads.

        Raises:
            UserError: it is an input of the experiment, or belongs to files that experiments work with.
        """
        kept = {
            "--config": self.config.folder,
            "model_root": self.options.model_root,
            "the data set": self.entry.data_dir,
        }
        if self.entry.is_encoded:
            read = {f"{split}_data": Path(file) for split, file in self.entry.splits.items()}
        else:
            read = self.entry.files(required=False)
        require_output(option, path, read | dict(inputs or {}), kept)

    def trainer(self, **options: Any) -> Trainer:
        """Return a trainer of the model with the seed's initial weights.

        Most callers use `fit` instead.

        Args:
            options: `on_start` and `observers` of `Trainer`.
        """
        if self._trained:
            self._store = self._trained = None
        store = self._initial_or_trained()
        return Trainer(
            store.model,
            callback=prepare_training(store, self.options),
            max_gradient_norm=self.options.max_gradient_norm,
            config={**self.config.params, DATA_CONTENT: self._data_content()},
            store=store,
            **options,
        )

    def _data_content(self) -> dict[str, str]:
        return Fingerprint.content_of(self.entry.data_dir)

    def _initial_or_trained(self) -> WeightStore:
        if self._store is None:
            self.prepare()
            self._store = self._build_store()
        return self._store

    def _build_store(self, sharded: bool = True) -> WeightStore:
        """Build the model, with row shards if configured.

        Args:
            sharded: False builds whole tables in any case.
        """
        params = self._data.params if self._data else self.params
        booster = params.get("booster_checkpoint")
        if isinstance(booster, str) and Path(booster).is_file():  # the model reports other errors of the value
            require_intact(Path(booster))
            check_weights(Path(booster), self._data_content())
        seed_everything(seed=self.options.seed)
        build = partial(build_model, self.model_class, load_feature_map(params), params)
        if sharded and self.options.embedding_sharding == "rows":
            from dien_fuxictr.distributed.row_shards.sharded_weight_store import build_store

            return build_store(build, self.group)
        return WeightStore(model=build(), group=self.group)
