"""What changes a training beyond the optimizer's steps."""

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
        """Before the first step of a run, or of what is left of one.

        Args:
            batches: of one epoch; the generators are afterwards as they were.
        """

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch that the step takes instead."""
        return batch

    def after_step(self) -> None:
        """The optimizer has moved."""

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """The model has the weights that are evaluated and kept in this block."""
        yield

    def state_dict(self) -> dict[str, Any]:
        """For `load_state_dict`: tensors and plain values, except `averages_of_shards`."""
        return {}

    def averages_of_shards(self) -> dict[str, Tensor]:
        """Return averages of parameters that are shards, by their names; the weight store saves them with the rows."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state."""


class CallbackList(Callback):
    """Several callbacks, in their order."""

    def __init__(self, parts: Sequence[Callback]) -> None:
        self.parts = parts

    def before_training(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Of each."""
        for part in self.parts:
            part.before_training(batches)

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One after the other."""
        for part in self.parts:
            batch = part.before_step(batch)
        return batch

    def after_step(self) -> None:
        """Of each."""
        for part in self.parts:
            part.after_step()

    @contextmanager
    def evaluated(self) -> Iterator[None]:
        """Inside all."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.evaluated())
            yield

    def state_dict(self) -> dict[str, Any]:
        """By the name of each one's class."""
        return {type(part).__name__: part.state_dict() for part in self.parts}

    def averages_of_shards(self) -> dict[str, Tensor]:
        """Return those of the part that has any."""
        return {name: rows for part in self.parts for name, rows in part.averages_of_shards().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Of each; a KeyError where there is none."""
        for part in self.parts:
            part.load_state_dict(state[type(part).__name__])
