"""Observers of a training, such as reports and TensorBoard."""

from collections.abc import Iterable
from typing import Any, Protocol

from fuxictr.pytorch.models import BaseModel


class Observer(Protocol):
    """Told of each step and each evaluation; changes neither."""

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
        """Act after the run."""
