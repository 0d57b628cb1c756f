"""Callbacks, which change a training beyond the optimizer's steps."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor


class Callback:
    """The places where a training can be changed; nothing happens there here.

    What a callback knows of its own is in its state, or follows from the epoch and the global generators: a resumed
    run equals an uninterrupted one.
    """

    def before_training(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Act before the first step of a run or of a resumed run.

        Args:
            batches: batches of one epoch; the generators are afterwards as they were.
        """

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the batch for the step, which may replace the given one."""
        return batch

    def after_step(self) -> None:
        """Act after the optimizer's step."""

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Give the model the weights to evaluate and keep, within the context."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, except `averages_of_shards`."""
        return {}

    def averages_of_shards(self) -> dict[str, Tensor]:
        """Return averages of sharded parameters by name; they are saved with the rows."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state."""


class CallbackList(Callback):
    """Several callbacks, in their order."""

    def __init__(self, parts: Sequence[Callback]) -> None:
        self.parts = parts

    def before_training(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Call each callback before the training."""
        for part in self.parts:
            part.before_training(batches)

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One after the other."""
        for part in self.parts:
            batch = part.before_step(batch)
        return batch

    def after_step(self) -> None:
        """Call each callback after a step."""
        for part in self.parts:
            part.after_step()

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Enter the contexts of all callbacks."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.evaluated())
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each callback by the name of its class."""
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def averages_of_shards(self) -> dict[str, Tensor]:
        """Return those of the part that has any."""
        return {name: rows for part in self.parts for name, rows in part.averages_of_shards().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of each callback; raise KeyError if one is missing."""
        for part in self.parts:
            part.load_state_dict(state[type(part).__name__])
