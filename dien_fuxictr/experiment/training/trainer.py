"""The zoo's training loop around any zoo model, with checks, atomic checkpoints and exact resumption."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.common.files import digest
from dien_fuxictr.common.progress import progress_bar
from dien_fuxictr.common.signals import DeferredSignals

from ..evaluation.evaluate import Evaluation, evaluate
from . import checkpoint
from .callbacks import Callback
from .early_stopping import judge
from .observer import Observer
from .optimizers import fuse
from .resume import Progress, ResumeFile, check_weights
from .step import clip_groups, take_step
from .untrained import embedding_norm, nothing_learnt
from .weight_store import WeightStore

_PATIENCE = 2
"""Evaluations in which a model may tell nothing before a warning; the first one may come early in the first epoch."""


class Trainer:
    """Fits a zoo model; the loop, the log lines and the keys are those of `BaseModel.fit`.

    Unlike the zoo: a loss or gradient that is not finite stops the run before the optimizer moves; a NaN metric is no
    improvement; `eval_steps` beyond the training evaluates at its end; an interrupted run can be resumed, bit for bit;
    weights of an earlier run are never taken for this one's; Adam's steps are fused.

    Args:
        model: a compiled zoo model that has taken no step.
        max_gradient_norm: clip norm of the gradient; of each of the groups that the model's `clip_groups` names.
        config: the configuration, compared when a run is resumed, and named in warnings.
        on_start: called after the first step, when the run has really started.
        observers: watch losses and evaluations.
        callback: changes the training beyond the optimizer's steps.
        checkpoint_seconds: the longest time between two resume states.
        store: of the model's weights, with the processes that train it; by default this process alone.
    """

    def __init__(
        self,
        model: BaseModel,
        max_gradient_norm: float = 10.0,
        config: dict[str, Any] | None = None,
        on_start: Callable[[], None] = lambda: None,
        observers: Sequence[Observer] = (),
        callback: Callback | None = None,
        checkpoint_seconds: float = 300.0,
        store: WeightStore | None = None,
    ) -> None:
        self.model = model
        self.max_gradient_norm = max_gradient_norm
        self.on_start = on_start
        self.observers = observers
        self.callback = callback or Callback()
        self.checkpoint_seconds = checkpoint_seconds
        self.store = store or WeightStore(model)
        self.group = self.store.group
        self.best_path = Path(model.checkpoint)
        self.config = config or {}
        self.resume_file = ResumeFile(self.best_path.with_suffix(".resume"), self.config)
        self.progress = Progress(best_metric=math.inf if model._monitor_mode == "min" else -math.inf)
        self._epoch_rng: dict[str, Any] = {}
        # Of a resumed run until it is back in its place; of any run while it stands still, see `_standing_still`.
        self._rng: dict[str, Any] | None = None
        self._owns_files = self._finished = self._has_learnt = False
        self._untrained = 0
        self._groups = clip_groups(model)  # to walk through all modules takes as long as small kernels
        fuse(model.optimizer)

    def resume(self) -> None:
        """Take up an interrupted run; `fit` then does what is left, for a finished run only the loading of its weights.

        Raises:
            UserError: as of `ResumeFile.load` and `ResumeFile.restore`, tables that are not there, or best weights
                that are missing or damaged.
        """
        state = self.resume_file.load()
        self._owns_files, self._finished = True, state["finished"]
        self.progress = state["progress"]
        if self._finished:
            check_weights(self.best_path)
            return
        if self.progress.saved_best:
            # A run that is killed after an evaluation may have written its weights and not yet the state: the digest
            # need not be the state's, but what was written must be whole.
            if not self.best_path.exists():
                raise UserError(f"cannot resume {self.resume_file.path}: checkpoint {self.best_path} does not exist")
            checkpoint.require_intact(self.best_path)
            self.progress.weights = digest(self.best_path)
        self.resume_file.restore(state, self.model, self.callback)
        self.store.read_state(self.resume_file.path, state.get("tables", ""), self.callback.averages_of_shards())
        self._epoch_rng, self._rng = state["epoch_rng"], state["rng"]

    def fit(self, train_loader: Any, valid_loader: Any, epochs: int = 1) -> None:
        """Train, then load the best weights of this run.

        Args:
            train_loader, valid_loader: zoo loaders; `len` is the number of batches.
            epochs: at most so many.

        Raises:
            TrainingError: a loss or gradient that is not finite, no evaluation whose monitor is a number, or best
                weights that something else has overwritten.
            UserError: a checkpoint cannot be written.
            KeyboardInterrupt: Ctrl-C, or `Terminated` after SIGTERM, once the state is saved; it says so. A run that
                has taken no step saves none.
        """
        try:
            self._fit(train_loader, valid_loader, epochs)
        except KeyboardInterrupt as error:
            if self._owns_files and self.resume_file.path.exists():
                raise type(error)("interrupted; the state is saved, --resume goes on with it") from error
            raise

    def _fit(self, train_loader: Any, valid_loader: Any, epochs: int) -> None:
        if self._finished:
            logging.info("The run has finished: nothing to resume.")
        else:
            self.callback.before_training(train_loader)
            with DeferredSignals() as self._signals:
                self._train(train_loader, valid_loader, epochs)
            if not self.progress.saved_best:
                monitor = "+".join(self.model._monitor.get_metrics())
                raise TrainingError(f"no evaluation gave a finite monitor ({monitor}): there are no best weights")
        logging.info(f"Load best model: {self.best_path}")
        if self.progress.weights and digest(self.best_path) != self.progress.weights:
            raise TrainingError(f"{self.best_path} has been overwritten: it does not hold the best weights of this run")
        self.store.read_weights(self.best_path)
        if self.group.leads:
            self.resume_file.mark_finished(self.progress)
            self.store.remove(self.resume_file.path)

    def _train(self, train_loader: Any, valid_loader: Any, epochs: int) -> None:
        steps_per_epoch = len(train_loader)
        all_steps = steps_per_epoch * epochs
        self._eval_steps = self.model._eval_steps or steps_per_epoch
        if self._eval_steps > all_steps:
            logging.warning(
                f"eval_steps={self._eval_steps} exceeds the {all_steps} steps of the training: evaluating at its end"
            )
            self._eval_steps = all_steps
        logging.info(f"Start training: {steps_per_epoch} batches/epoch")
        if not self.progress.total_steps:
            self.progress.embedding_norm = embedding_norm(self.store)
        if self._rng is None:
            logging.info("************ Epoch=1 start ************")
        else:
            self._back_in_place(train_loader, steps_per_epoch, self._rng)
        self._last_write = time.monotonic()
        while self.progress.epoch < epochs and not self.progress.stop:
            self._train_epoch(train_loader, valid_loader, steps_per_epoch)
            if not self.progress.stop:
                logging.info(f"************ Epoch={self.progress.epoch + 1} end ************")
                self.progress.epoch += 1
                self.progress.batches_done = 0
        with self._standing_still():
            logging.info("Training finished.")

    def _back_in_place(self, train_loader: Any, steps_per_epoch: int, rng: dict[str, Any]) -> None:
        place = self.progress
        logging.info(f"Resume training @epoch {place.epoch + 1} - batch {place.batches_done}")
        if isinstance(train_loader, ParquetDataLoader) and train_loader.shuffle:
            logging.warning("The zoo's Parquet loader shuffles without the seed: the resumed run sees another order")
        if place.batches_done == steps_per_epoch and not self._evaluation_is_due:
            place.epoch += 1
            place.batches_done = 0
        if place.batches_done == 0:
            checkpoint.set_rng_state(rng)
            self._rng = None

    def _train_epoch(self, train_loader: Any, valid_loader: Any, steps_per_epoch: int) -> None:
        place = self.progress
        self.model.train()
        self.model._epoch_index = place.epoch  # as the zoo's loop does, for models with a schedule
        batches = self._fetched(self._epoch_batches(train_loader))
        if self._evaluation_is_due:  # interrupted in it
            self._eval_step(valid_loader)
            if place.stop:
                return
        start = time.perf_counter()
        for batch in progress_bar(batches, self.model._verbose, total=steps_per_epoch, initial=place.batches_done):
            loss = self.train_step(batch)
            place.train_seconds += time.perf_counter() - start
            place.train_rows += len(batch[self.model.feature_map.labels[0]])
            place.batches_done += 1
            place.total_steps += 1
            place.loss_sum += loss
            place.loss_steps += 1
            self.on_start()
            if self._evaluation_is_due:
                self._eval_step(valid_loader)
            elif self.group.largest(time.monotonic() - self._last_write > self.checkpoint_seconds):
                self._write_state()
            if place.stop:
                break
            self._signals.agree(self.group.largest)
            if self._signals.received:
                with self._standing_still():
                    pass
            start = time.perf_counter()

    @property
    def _evaluation_is_due(self) -> bool:
        return self.progress.loss_steps > 0 and self.progress.total_steps % self._eval_steps == 0

    def _epoch_batches(self, train_loader: Any) -> Iterable[dict[str, Tensor]]:
        """The epoch's batches that are left; a loader draws its order from the generators as its iterator starts."""
        resumed = self._rng
        if resumed is None:
            self._epoch_rng = checkpoint.rng_state()
        else:
            checkpoint.set_rng_state(self._epoch_rng)
        with self._standing_still():
            batches = iter(train_loader)
            for _ in islice(batches, self.progress.batches_done):
                pass
        if resumed is not None:
            checkpoint.set_rng_state(resumed)
        return batches

    def _fetched(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        try:
            yield from batches
        except Exception:  # a process of the loader's has ended, perhaps by the signal that this one has got too
            with nullcontext() if self.store.is_collective else self._standing_still():
                raise

    @contextmanager
    def _standing_still(self) -> Iterator[None]:
        """The run takes no step in this block: a signal ends it here, with the state of the block's beginning saved."""
        self._rng, can_save = self._rng or checkpoint.rng_state(), True
        try:
            if self.store.is_collective:  # no process can save alone: all end before the block, or none
                self._signals.agree(self.group.largest)
                self._signals.raise_received()
                can_save = False
            with nullcontext() if self.store.is_collective else self._signals.allowed():
                yield
        except KeyboardInterrupt:
            if self.progress.total_steps and can_save:
                self._write_state()
            raise
        self._rng = None

    def train_step(self, batch: dict[str, Tensor]) -> float:
        """One optimizer step on a batch, the model in training mode; returns the loss.

        Raises:
            TrainingError: a loss or gradient that is not finite; the optimizer has not moved.
        """
        place, model = self.progress, self.model
        where = f"epoch {place.epoch + 1}, batch {place.batches_done + 1} (step {place.total_steps + 1})"
        batch = self.callback.before_step(batch)
        losses = take_step(self.store, self._groups, batch, self.max_gradient_norm, where)
        self.callback.after_step()
        for observer in self.observers:
            observer.step(place.total_steps + 1, losses, model.optimizer.param_groups[0]["lr"])
        return losses["train"]

    def _eval_step(self, valid_loader: Any) -> None:
        place = self.progress
        logging.info(f"Train loss: {place.loss_sum / place.loss_steps:.6f}")
        logging.info(f"Evaluation @epoch {place.epoch + 1} - batch {place.batches_done}: ")
        with self._standing_still(), self.callback.evaluated():
            evaluation = evaluate(
                self.model, valid_loader, self.model._monitor.get_metrics(), self.group, self.store.is_collective
            )
            self._warn_of_nothing_learnt(evaluation)
        logs = evaluation.metrics
        place.loss_sum, place.loss_steps = 0.0, 0
        with self.callback.evaluated():
            if judge(self.model, place, self.model._monitor.get_value(logs)):
                self._write_weights()
            for observer in self.observers:
                observer.evaluation(place.total_steps, place.epoch + 1, logs, self.model, valid_loader)
        self.model.train()
        self._write_state()

    def _warn_of_nothing_learnt(self, evaluation: Evaluation) -> None:
        """At the second evaluation in which the model tells nothing, if it never has before."""
        if self._has_learnt:
            return
        found = nothing_learnt(evaluation, self.store, self.progress, self.config)
        self._has_learnt = not found
        self._untrained += bool(found)
        if self._untrained == _PATIENCE:
            logging.warning(f"The model has learnt nothing so far: {found}")

    def _write_weights(self) -> None:
        self._take_files()
        if self.group.leads and not self.progress.saved_best:  # what is there is of an earlier run
            checkpoint.keep_previous(self.best_path)
        self.store.write_weights(self.best_path)
        self.progress.saved_best, self.progress.weights = True, digest(self.best_path)
        self.progress.saved_at = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def _write_state(self) -> None:
        self._take_files()
        name = self.store.write_state(self.resume_file.path, self.callback.averages_of_shards())
        if self.group.leads:
            rng = self._rng or checkpoint.rng_state()
            self.resume_file.save(self.model, self.progress, self.callback, self._epoch_rng, rng, name)
            self.store.remove(self.resume_file.path, kept=name)
        self._last_write = time.monotonic()

    def _take_files(self) -> None:
        """Before the first write of a fresh run, the resume state of an earlier run must go: it would mix two runs."""
        if not self._owns_files and self.group.leads:
            self.resume_file.path.unlink(missing_ok=True)
            self.store.remove(self.resume_file.path)
        self._owns_files = True
