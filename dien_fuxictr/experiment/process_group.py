"""Interface of processes that train a model together, for one process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

Batch = dict[str, Tensor]


class BatchShard:
    """A process's part of a batch: here all of it.

    Args:
        batch: the rows of this process.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    @contextmanager
    def computed(self) -> Iterator[None]:
        """Compute the forward pass and the loss in this block."""
        yield

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Compute the gradients of the whole batch's loss.

        Args:
            loss: loss of this shard.
            parameters: parameters of the model, without row shards.
        """
        loss.backward()

    def mean(self, losses: Tensor) -> Tensor:
        """Return means over the whole batch.

        Args:
            losses: (K,) float64, each a mean over this shard.
        """
        return losses


class ProcessGroup:
    """Single process: each method returns its argument, and none waits.

    `DistributedGroup` has several processes. All processes run the same program and make the same decisions. Their
    weights, optimizers and random generators are equal at every step, so that the state that one process writes can
    resume any number of processes.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank, count = 0, 1

    @property
    def leads(self) -> bool:
        """Return whether this process writes files and prints for all."""
        return self.rank == 0

    def follow(self, aux_negative_scope: str | None, sync_batch_norm: bool) -> None:
        """Apply the keys of a configuration for several processes.

        See `TrainingOptions`.
        """

    def shard(self, batch: Batch, rows: int) -> BatchShard:
        """Return this process's part of a batch.

        Args:
            batch: the whole batch, equal on all processes.
            rows: how many it has.
        """
        return BatchShard(batch)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of the values of all processes."""
        return values

    def largest(self, number: int) -> int:
        """Return the largest of the numbers of all processes."""
        return number

    def exchange(self, rows: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """Send rows to each process, and return the rows that arrive.

        Args:
            rows: (N, ...), sorted by the process that they are for.
            counts: number of rows for each process.

        Returns:
            The rows for this process, sorted by the process that has sent them, and the number of rows of each.
        """
        return rows, counts

    def wait(self) -> None:
        """Wait until all processes are here."""

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run this block in the leader before the other processes enter it."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()


SINGLE_PROCESS = ProcessGroup()
