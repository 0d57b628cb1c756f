"""What watches a training run: reports, TensorBoard."""

from collections.abc import Iterable
from typing import Any, Protocol

from fuxictr.pytorch.models import BaseModel


class Observer(Protocol):
    """Told of each step and each evaluation; changes neither."""

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        """After each optimizer step.

        Args:
            step: from 1.
            losses: `train`, its part `target`, `gradient_norm` and, if the model has one, `auxiliary`.
            learning_rate: of this step.
        """

    def evaluation(
        self, step: int, epoch: int, metrics: dict[str, float], model: BaseModel, loader: Iterable[Any]
    ) -> None:
        """After each evaluation on the validation `loader`, in an epoch from 1; must leave the random state alone."""

    def close(self) -> None:
        """Once the run is over."""
