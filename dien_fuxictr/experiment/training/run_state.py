"""State of a running training: place, random generators, and its files."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.common.files import digest
from dien_fuxictr.common.signals import DeferredSignals

from . import checkpoint
from .callbacks import Callback
from .resume import Progress, ResumeFile, check_weights
from .weight_store import WeightStore


class RunState:
    """State from which an interrupted run continues; it also times interruptions.

    While the run is active, Ctrl-C and SIGTERM wait for `heed_signals` or a block of `paused`; then the state is saved.
    All processes of a group end at the same step.

    Args:
        store: store of the model's weights.
        callback: its state is saved, too.
        config: configuration of the run; only an equal one can resume it.
        save_seconds: longest time between two states.

    Attributes:
        best_path: file of the best weights.
        file: file of the resume state.
        progress: place in the training.
        is_finished: whether the run has ended by itself.
    """

    def __init__(self, store: WeightStore, callback: Callback, config: dict[str, Any], save_seconds: float) -> None:
        model = store.model
        self._store, self._callback, self._group = store, callback, store.group
        self.best_path = Path(model.checkpoint)
        self.file = ResumeFile(path=self.best_path.with_suffix(".resume"), config=config)
        self.progress = Progress(best_metric=math.inf if model._monitor_mode == "min" else -math.inf)
        self.is_finished = self._owns_files = False
        self._signals = DeferredSignals()
        self._save_seconds, self._saved = save_seconds, time.monotonic()
        self._generators_of_epoch: dict[str, Any] = {}
        # The generators with which the run continues: set until a resumed run is back at its place, and in pauses.
        self._generators: dict[str, Any] | None = None

    def restore(self) -> None:
        """Read the state of an interrupted run.

        Raises:
            UserError: as of `ResumeFile.load` and `ResumeFile.restore`, shards of tables that are missing, or best
                weights that are missing or damaged.
        """
        state = self.file.load()
        self._owns_files, self.is_finished = True, state["finished"]
        self.progress = state["progress"]
        if self.is_finished:
            check_weights(self.best_path, self.file.data)
            return
        if self.progress.saved_best:
            # A run that is killed after an evaluation may have written its weights and not yet the state: the digest
            # need not be the state's, but what was written must be whole.
            if not self.best_path.exists():
                raise UserError(
                    f"cannot resume {self.file.path}: checkpoint {self.best_path} does not exist; restore it, "
                    "or train without --resume"
                )
            checkpoint.require_intact(self.best_path)
            self.progress.weights = digest(self.best_path)
        self.file.restore(state, self._store.model, self._callback)
        self._store.read_state(self.file.path, state.get("tables", ""), self._callback.averages_of_shards())
        self._generators_of_epoch, self._generators = state["epoch_rng"], state["rng"]

    @property
    def is_saved(self) -> bool:
        """Return whether this run has a saved resume state."""
        return self._owns_files and self.file.path.exists()

    @property
    def is_elsewhere(self) -> bool:
        """Return whether a resumed run still has to return to its place.

        `begin_epoch` or `batches` does so.
        """
        return self._generators is not None

    def begin_epoch(self) -> None:
        """Let a resumed run continue at the beginning of an epoch."""
        assert self._generators is not None
        checkpoint.set_rng_state(self._generators)
        self._generators = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Take the steps of the run in this block."""
        self._saved = time.monotonic()
        with self._signals:
            yield

    def batches(self, loader: Any) -> Iterator[dict[str, Tensor]]:
        """Return the remaining batches of the epoch, in the order of the whole epoch.

        A loader draws its order from the generators when its iterator starts, which is at once.
        """
        resumed = self._generators
        if resumed is None:
            self._generators_of_epoch = checkpoint.rng_state()
        else:
            checkpoint.set_rng_state(self._generators_of_epoch)
        with self.paused():
            batches = iter(loader)
            for _ in islice(batches, self.progress.batches_done):
                pass
        if resumed is not None:
            checkpoint.set_rng_state(resumed)
        return self._fetched(batches)

    def _fetched(self, batches: Iterable[dict[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        try:
            yield from batches
        # a process of the loader has ended, perhaps by the signal that this process has received, too
        except Exception:
            with nullcontext() if self._store.is_collective else self.paused():
                raise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Run a block without steps, in which a signal ends the run.

        The state of the block's beginning is then saved. If one process alone cannot save, a signal in the block waits
        for the next block.
        """
        self._generators, can_save = self._generators or checkpoint.rng_state(), True
        try:
            if self._store.is_collective:  # all processes end before the block, or none does
                self._signals.agree(self._group.largest)
                self._signals.raise_received()
                can_save = False
            with nullcontext() if self._store.is_collective else self._signals.allowed():
                yield
        except KeyboardInterrupt:
            if self.progress.total_steps and can_save:
                self.save()
            raise
        self._generators = None

    def heed_signals(self) -> None:
        """End the run here if a signal has come to any process."""
        self._signals.agree(self._group.largest)
        if self._signals.received:
            with self.paused():
                pass

    def save_if_due(self) -> None:
        """Save the state if the last one is older than `save_seconds` on any process."""
        if self._group.largest(time.monotonic() - self._saved > self._save_seconds):
            self.save()

    def save(self) -> None:
        """Write the resume state; all processes call it."""
        self._take_files()
        name = self._store.write_state(self.file.path, self._callback.averages_of_shards())
        if self._group.leads:
            generators = self._generators or checkpoint.rng_state()
            self.file.save(
                model=self._store.model,
                progress=self.progress,
                callback=self._callback,
                epoch_rng=self._generators_of_epoch,
                rng=generators,
                tables=name,
            )
            self._store.remove(self.file.path, kept=name)
        self._saved = time.monotonic()

    def save_weights(self) -> None:
        """Write the best weights; all processes call it.

        Weights of an earlier run are kept under another name.
        """
        self._take_files()
        if self._group.leads and not self.progress.saved_best:
            checkpoint.keep_previous(self.best_path)
        self._store.write_weights(self.best_path)
        self.progress.saved_best, self.progress.weights = True, digest(self.best_path)
        self.progress.saved_at = datetime.now(timezone.utc).isoformat(timespec="seconds")

    def finish(self) -> None:
        """Load the best weights, and replace the resume state by a mark of the end.

        Raises:
            TrainingError: the best weights were overwritten.
        """
        if self.progress.weights and digest(self.best_path) != self.progress.weights:
            raise TrainingError(
                f"{self.best_path} has been overwritten: it does not hold the best weights of this run; train again"
            )
        self._store.read_weights(self.best_path)
        if self._group.leads:
            self.file.mark_finished(self.progress)
            self._store.remove(self.file.path)

    def _take_files(self) -> None:
        """Remove the resume state of an earlier run before a fresh run writes."""
        if not self._owns_files and self._group.leads:
            self.file.path.unlink(missing_ok=True)
            self._store.remove(self.file.path)
        self._owns_files = True
