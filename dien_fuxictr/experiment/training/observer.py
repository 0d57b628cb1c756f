"""Observers of a training: what it shows, reports, TensorBoard."""

from collections.abc import Iterable
from typing import Any

from fuxictr.pytorch.models import BaseModel

from .resume import Progress


class Observer:
    """Base of observers, which a training calls and which do not change it; each method does nothing."""

    def start(self, model: BaseModel, train_loader: Any, valid_loader: Any, epochs: int, place: Progress) -> None:
        """Act before the first step of a run, or of a resumed run.

        Args:
            model: the model.
            train_loader: loader of the training rows.
            valid_loader: loader of the validation rows.
            epochs: the largest number of epochs.
            place: the progress of the training, which the training updates.
        """

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """Act after each optimizer step.

        Args:
            step: from 1.
            losses: `train`, its part `target`, `gradient_norm` and, if the model has one, `auxiliary`.
            learning_rate: learning rate of this step.
        """

    def evaluation(
        self, step: int, epoch: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]
    ) -> None:
        """Act after each evaluation on the validation `loader`.

        It must not change the random state. Epochs are counted from 1.
        """

    def close(self) -> None:
        """Act at the end of the run, after an error too."""
