"""Progress of a training: one bar, and one line per evaluation."""

import math
from collections.abc import Iterable
from time import monotonic
from typing import Any

from fuxictr.pytorch.models import BaseModel
from tqdm import tqdm

from dien_fuxictr.common.progress import has_terminal, progress_bar, say

from .observer import Observer
from .resume import Progress

LINE_SECONDS = 60.0
"""Time between two lines of a training that has no bar."""
_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"


class TrainingProgress(Observer):
    """Observer that shows a training on stderr: sizes, a bar over all steps, a line per evaluation.

    Without a terminal a line per minute replaces the bar.

    Args:
        verbose: of the configuration; 0: neither bar nor lines per minute.
    """

    def __init__(self, verbose: int = 1) -> None:
        self._verbose = verbose
        self._bar = progress_bar(verbose=0)
        self._place, self._epochs, self._monitor, self._steps = Progress(), 1, "", 1
        self._loss = self._learning_rate = math.nan
        self._started = self._said = monotonic()

    def start(self, model: BaseModel, train_loader: Any, valid_loader: Any, epochs: int, place: Progress) -> None:
        """Say what is trained, and show the bar."""
        self._place, self._epochs, self._monitor = place, epochs, "+".join(model._monitor.get_metrics())
        self._learning_rate = model.optimizer.param_groups[0]["lr"]
        if place.loss_steps:
            self._loss = place.loss_sum / place.loss_steps
        parameters = sum(weights.numel() for weights in model.parameters() if weights.requires_grad)
        say(f"  data      {train_loader.num_samples:,} training rows, {valid_loader.num_samples:,} validation rows")
        say(f"  model     {parameters:,} parameters, on {model.device}")
        if place.total_steps:
            say(f"  resumed   in epoch {place.epoch + 1}, after step {place.total_steps:,}")
        self._started = self._said = monotonic()
        self._steps = len(train_loader) * epochs
        self._bar = progress_bar(
            verbose=self._verbose, desc=self._epoch, total=self._steps, initial=place.total_steps, bar_format=_BAR
        )

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Move the bar, or print a line if the last one is a minute old."""
        place, self._learning_rate = self._place, learning_rate
        self._loss = (place.loss_sum + losses["train"]) / (place.loss_steps + 1)  # `place` does not have this step yet
        self._describe()
        self._bar.update()
        if self._verbose and monotonic() > self._said + LINE_SECONDS and not has_terminal():
            self._line(step, [])

    def evaluation(
        self, step: int, epoch: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]
    ) -> None:
        """Print the line of an evaluation."""
        place, learning_rate = self._place, model.optimizer.param_groups[0]["lr"]
        shown = metrics if self._monitor in metrics else metrics | {self._monitor: model._monitor.get_value(metrics)}
        found = ["validation " + " ".join(f"{name} {value:.4f}" for name, value in shown.items())]
        if place.stopping_steps == 0:
            found.append("best so far")
        if place.stop:
            found.append("early stop")
        elif learning_rate < self._learning_rate:
            found.append(f"learning rate now {learning_rate:.3g}")
        self._line(step, found)
        self._describe()

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()

    @property
    def _epoch(self) -> str:
        return f"epoch {self._place.epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def _line(self, step: int, found: list[str]) -> None:
        steps = f"step {step:{len(str(self._steps))}}/{self._steps}"
        clock = tqdm.format_interval(monotonic() - self._started)
        say("  ".join([self._epoch, steps, clock, f"loss {self._loss:.4f}", *found]))
        self._said = monotonic()

    def _describe(self) -> None:
        best = self._place.best_metric
        known = f", best {self._monitor} {best:.4f}" if math.isfinite(best) else ""
        self._bar.set_description_str(self._epoch, refresh=False)
        self._bar.set_postfix_str(f"loss {self._loss:.4f}{known}", refresh=False)
