"""Those who train a model together: one process alone, which all others are to equal, or several."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

Batch = dict[str, Tensor]


class BatchShard:
    """What a worker has of a step: all of it.

    Args:
        batch: its rows.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @contextmanager
    def computed(self) -> Iterator[None]:
        """The forward pass and the loss are computed in this block."""
        yield

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Leave the gradients of the whole batch's loss in the parameters.

        Args:
            loss: of this share.
            parameters: of the model, without row shards.
        """
        loss.backward()

    def mean(self, losses: Tensor) -> Tensor:
        """Of the whole batch. losses: (K,) float64, each a mean over this share."""
        return losses


class ProcessGroup:
    """One process, which has everything to itself: every method gives back what it is given, and waits for nobody.

    All workers run the same program, and come to the same decisions. They have the same weights, optimizer and random
    generators all the time, so that what one of them writes resumes any number of them.

    Attributes:
        rank: number of this worker, from 0. count: how many there are.
    """

    rank, count = 0, 1

    @property
    def leads(self) -> bool:
        """Whether it is this one that writes and speaks for all."""
        return self.rank == 0

    def follow(self, params: Mapping[str, Any]) -> None:
        """Take what a configuration says of several workers."""

    def shard(self, batch: Batch, rows: int) -> BatchShard:
        """This worker's share of a step.

        Args:
            batch: the whole batch, the same for all.
            rows: how many it has.
        """
        return BatchShard(batch)

    def sum(self, values: Tensor) -> Tensor:
        """The sum of all workers' values, the same for all."""
        return values

    def largest(self, number: int) -> int:
        """Of the numbers that the workers have."""
        return number

    def exchange(self, rows: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """Send each worker its rows.

        Args:
            rows: (N, ...), first those for the first worker.
            counts: how many are for each.

        Returns:
            What the workers have sent to this one, first that of the first, and how many rows each.
        """
        return rows, counts

    def wait(self) -> None:
        """Until all are here."""

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader has left this block when the others enter it."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


SINGLE_PROCESS = ProcessGroup()
