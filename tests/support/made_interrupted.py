"""Parts of an interrupted training: its batches, and what ends it."""

from collections.abc import Iterator

import torch
from made_float64 import batches

from dien_fuxictr.experiment.training.observer import Observer

EPOCHS, BATCHES, INTERRUPTED = 2, 8, 11


class Shuffled:
    """Batches in another order each epoch, which follows from the common generator."""

    def __init__(self) -> None:
        self.batches = batches(BATCHES)

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([self.batches[i] for i in torch.randperm(BATCHES).tolist()])


class Losses(Observer):
    """Observer of the loss of each step by number, which stops before step `stop`."""

    def __init__(self, stop: int | None = None) -> None:
        self.of: dict[int, float] = {}
        self.stop = stop

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        if step == self.stop:
            raise InterruptedError
        self.of[step] = losses["train"]
