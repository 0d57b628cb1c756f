"""`weight_averaging: ema`: evaluate and keep a running average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .callbacks import Callback
from .weight_store import WeightStore


class WeightAverage(Callback):
    """Exponential moving average of trained weights and of running statistics.

    The training itself does not use it. After step n, from 1, with the weights w:

            d = min(decay, n / (9 + n)),  average = d average + (1 - d) w

    so that the initial random weights are soon forgotten, as in TensorFlow's ExponentialMovingAverage.
    `torch.optim.swa_utils.AveragedModel` would copy a whole model of the zoo, including its optimizer, and rounds the
    whole numbers among its buffers.

    Args:
        store: store of the model; its other state, such as counts, is evaluated and kept unchanged.
        decay: from 0 to below 1.
    """

    def __init__(self, store: WeightStore, decay: float) -> None:
        model = store.model
        self.decay = decay
        self.steps = 0
        kept = model.state_dict().keys()
        trained = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        running = {name: b for name, b in model.named_buffers() if name in kept and b.is_floating_point()}
        self._weights: dict[str, Tensor] = trained | running
        self._averages = {name: weight.clone() for name, weight in self._weights.items()}
        self._of_shards = {name for name, weight in model.named_parameters() if store.is_shard(weight)} & trained.keys()

    @torch.no_grad()
    def after_step(self) -> None:
        """Take in the weights."""
        self.steps += 1
        average = get_ema_multi_avg_fn(min(self.decay, self.steps / (9 + self.steps)))
        by_type: dict[torch.dtype, list[str]] = {}
        for name, weight in self._weights.items():
            by_type.setdefault(weight.dtype, []).append(name)
        for names in by_type.values():
            average([self._averages[name] for name in names], [self._weights[name] for name in names], self.steps)

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Give the model the average within the context."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the average, and its number of steps."""
        return {"steps": self.steps, "averages": {n: a for n, a in self._averages.items() if n not in self._of_shards}}

    def averages_of_shards(self) -> dict[str, Tensor]:
        """Return the averages that the state lacks."""
        return {name: self._averages[name] for name in self._of_shards}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore an average."""
        self.steps = state["steps"]
        for name in self._averages.keys() - self._of_shards:
            self._averages[name].copy_(state["averages"][name])
