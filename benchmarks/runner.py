"""A system in its own process, with a batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from dien_fuxictr.experiment.device import keep_freed_memory

from .clock import seconds_on
from .entries import Entry
from .synthetic_batches import Sizes, trimmed
from .systems import System

TRIM = ("own", "all", "none")
MALLOC = ("own", "kept", "default")

MakeBatch = Callable[[], dict[str, Tensor]]
Act = Callable[[System, Any], Callable[[], Any]]
"""From a system and a batch prepared for it to what is measured."""


class Conditions(NamedTuple):
    """Conditions of a comparison: values of the options of these names."""

    trim: str
    malloc: str
    threads: Sequence[int]
    rounds: int


class Runner(NamedTuple):
    """System in a process, with its batch.

    Attributes:
        system: the system.
        batch: batch in the form of the system.
        task: what is measured.
        rows: number of rows of the batch.
        width: length that its histories are padded to.
    """

    system: System
    batch: Any
    task: Callable[[], Any]
    rows: int
    width: int

    def seconds(self, threads: int, calls: int) -> float:
        """Return the seconds per call of the task, on a number of threads."""
        return seconds_on(self.task, threads, calls)


def get_ready(entry: Entry, sizes: Sizes, make: MakeBatch, conditions: Conditions, act: Act) -> Runner:
    """Build the system, in a process that was started for it.

    Args:
        entry: entry of the system.
        sizes: sizes of the data set and the model.
        make: builds the batch.
        conditions: conditions of the comparison.
        act: what is measured.
    """
    if conditions.malloc == "kept" or (conditions.malloc == "own" and entry.keeps_freed):
        keep_freed_memory()
    system = entry.build(sizes)
    batch = padded_for(system, make(), conditions.trim)
    prepared = system.prepare(batch)
    return Runner(system, prepared, act(system, prepared), len(batch["label"]), batch["item_history"].size(1))


def padded_for(system: System, batch: dict[str, Tensor], trim: str) -> dict[str, Tensor]:
    """Return the batch padded for a system, see `--trim`."""
    fits = {"own": system.trims, "all": system.trims or system.trimmable, "none": False}
    return trimmed(batch) if fits[trim] else batch


def training(system: System, batch: Any) -> Callable[[], Any]:
    """Return a function that takes a whole training step."""
    system.model.train()
    return partial(system.step, batch)


def scoring(system: System, batch: Any) -> Callable[[], Any]:
    """Return a function that predicts."""
    system.model.eval()
    return partial(system.predict, batch)
