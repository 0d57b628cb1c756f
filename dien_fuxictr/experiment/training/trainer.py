"""The zoo's training loop with checks, atomic checkpoints and exact resumption.

It trains any model of the zoo.
"""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from dien_fuxictr.common.errors import TrainingError

from ..configuration.training_options import TrainingOptions
from ..evaluation.evaluate import evaluate
from .callbacks import Callback
from .early_stopping import judge
from .observer import Observer
from .optimizers import fuse
from .resume import Progress
from .run_state import RunState
from .step import clip_groups, take_step
from .untrained import LearningCheck, embedding_norm
from .weight_store import WeightStore


class Trainer:
    """Trainer with the loop, log lines and keys of `BaseModel.fit`.

    Differences from the zoo: a non-finite loss or gradient stops the run before the optimizer changes weights; a NaN
    metric is not an improvement; `eval_steps` longer than the training evaluates at the end of the training; an
    interrupted run can be resumed, bit for bit; weights of an earlier run are never mistaken for those of this run;
    Adam's steps are fused.

    Args:
        model: a compiled zoo model that has taken no step.
        max_gradient_norm: clip norm of the gradient; applied to each group of the model's `clip_groups`.
        config: the configuration, compared when a run is resumed, and named in warnings.
        on_start: called after the first step, when the run has really started.
        observers: watch losses and evaluations.
        callback: changes the training beyond the optimizer's steps.
        checkpoint_seconds: longest time between two resume states.
        store: store of the model's weights, with the processes that train it; default: this process alone.

    Attributes:
        state: state that `--resume` continues from.
    """

    def __init__(
        self,
        model: BaseModel,
        max_gradient_norm: float = TrainingOptions.max_gradient_norm,
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
        self.store = store or WeightStore(model)
        self.state = RunState(
            store=self.store, callback=self.callback, config=config or {}, save_seconds=checkpoint_seconds
        )
        self._learning = LearningCheck(store=self.store, config=config or {})
        self._groups = clip_groups(model)  # walking through all modules takes as long as small kernels
        fuse(model.optimizer)

    @property
    def progress(self) -> Progress:
        """Return the place in the training."""
        return self.state.progress

    def resume(self) -> None:
        """Restore an interrupted run; `fit` then does what is left.

        For a finished run it only loads the weights.

        Raises:
            UserError: see `RunState.restore`.
        """
        self.state.restore()

    def fit(self, train_loader: Any, valid_loader: Any, epochs: int = 1) -> None:
        """Train, then load the best weights of this run.

        Args:
            train_loader: a loader of the zoo; `len` is the number of batches.
            valid_loader: a loader of the zoo.
            epochs: largest number of epochs.

        Raises:
            TrainingError: a loss or gradient is not finite, no evaluation has a number as monitor, or the best weights
                were overwritten.
            UserError: a checkpoint cannot be written.
            KeyboardInterrupt: Ctrl-C, or `Terminated` after SIGTERM, once the state is saved, which the message says. A
                run that has taken no step saves none.
        """
        try:
            if self.state.is_finished:
                screen = {"screen": "  resumed   the training had finished; its weights are evaluated"}
                logging.info("The run has finished: nothing to resume.", extra=screen)
            else:
                self.callback.before_training(train_loader)
                with self.state.running():
                    self._train(train_loader, valid_loader, epochs)
                if not self.progress.saved_best:
                    monitor = "+".join(self.model._monitor.get_metrics())
                    raise TrainingError(f"no evaluation gave a finite monitor ({monitor}): there are no best weights")
            logging.info(f"Load best model: {self.state.best_path}")
            self.state.finish()
        except KeyboardInterrupt as error:
            if self.state.is_saved:
                raise type(error)("interrupted; the state is saved, --resume continues it") from error
            raise

    def _train(self, train_loader: Any, valid_loader: Any, epochs: int) -> None:
        steps_per_epoch = len(train_loader)
        all_steps = steps_per_epoch * epochs
        eval_steps = self.model._eval_steps or steps_per_epoch
        if eval_steps > all_steps:
            logging.warning(
                f"eval_steps = {eval_steps} exceeds the {all_steps} steps of the training; evaluating at the end"
            )
            eval_steps = all_steps
        logging.info(f"Start training: {steps_per_epoch} batches/epoch")
        place = self.progress
        if not place.total_steps:
            place.embedding_norm = embedding_norm(self.store)
        for observer in self.observers:
            observer.start(self.model, train_loader, valid_loader, epochs, place)
        if self.state.is_elsewhere:
            self._back_in_place(train_loader, eval_steps)
        else:
            logging.info("************ Epoch=1 start ************")
        while place.epoch < epochs and not place.stop:
            self._train_epoch(train_loader, valid_loader, eval_steps)
            if not place.stop:
                logging.info(f"************ Epoch={place.epoch + 1} end ************")
                place.next_epoch()
        with self.state.paused():
            logging.info("Training finished.")

    def _back_in_place(self, train_loader: Any, eval_steps: int) -> None:
        place = self.progress
        logging.info(f"Resume training @epoch {place.epoch + 1} - batch {place.batches_done}")
        if isinstance(train_loader, ParquetDataLoader) and train_loader.shuffle:
            logging.warning("The zoo's Parquet loader shuffles without the seed: the resumed run has another order")
        if place.batches_done == len(train_loader) and not place.evaluation_is_due(eval_steps):
            place.next_epoch()
        if place.batches_done == 0:
            self.state.begin_epoch()

    def _train_epoch(self, train_loader: Any, valid_loader: Any, eval_steps: int) -> None:
        state, place = self.state, self.progress
        self.model.train()
        self.model._epoch_index = place.epoch  # as the zoo's loop does, for models with a schedule
        batches = state.batches(train_loader)
        if place.evaluation_is_due(eval_steps):  # interrupted in it
            self._evaluate(valid_loader)
            if place.stop:
                return
        start = time.perf_counter()
        for batch in batches:
            loss = self.train_step(batch)
            rows = len(batch[self.model.feature_map.labels[0]])
            place.take_step(loss, rows, seconds=time.perf_counter() - start)
            self.on_start()
            if place.evaluation_is_due(eval_steps):
                self._evaluate(valid_loader)
            else:
                state.save_if_due()
            if place.stop:
                break
            state.heed_signals()
            start = time.perf_counter()

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

    def _evaluate(self, valid_loader: Any) -> None:
        state, place, model = self.state, self.progress, self.model
        logging.info(f"Train loss: {place.loss_sum / place.loss_steps:.6f}")
        logging.info(f"Evaluation @epoch {place.epoch + 1} - batch {place.batches_done}: ")
        with state.paused(), self.callback.evaluated():
            metrics = model._monitor.get_metrics()
            evaluation = evaluate(model, valid_loader, metrics, self.store.group, self.store.is_collective)
            self._learning.check(evaluation, place)
        logs = evaluation.metrics
        place.loss_sum, place.loss_steps = 0.0, 0
        with self.callback.evaluated():
            if judge(model, place, model._monitor.get_value(logs)):
                state.save_weights()
            for observer in self.observers:
                observer.evaluation(place.total_steps, place.epoch + 1, logs, model, valid_loader)
        model.train()
        state.save()
