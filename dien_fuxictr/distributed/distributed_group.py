"""Group of processes that train one model, each with a slice of every batch.

Not run yet: processes on GPUs, whose gradients go by NCCL. Tests run gloo, on the CPU of one machine.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, Batch, BatchShard, ProcessGroup
from model_zoo.DIEN.src.layers import batch_scope

from .batch_wide import AllRows, Part, gathered
from .launcher import STORE

LARGE = 16
"""Largest number of processes that draw negatives from the whole batch; the time to draw grows with their number."""
PATIENCE = timedelta(hours=6)
"""How long processes wait for the leader to build a data set; they see at once that one of them has ended."""


def run_in_group(run: Callable[[ProcessGroup], int], gpu: int) -> int:
    """Run a command in this process, alone or as part of a group.

    torchrun or Ray Train have started the processes of a group.

    Args:
        run: returns an exit code.
        gpu: GPU of this process, whose gradients go by NCCL; -1 for the CPU, by gloo.

    Returns:
        The exit code. The leader prints an input error that all processes raise; the others only return the code.

    Raises:
        TrainingError: another process has ended.
    """
    if not is_one_of_several():
        return run(SINGLE_PROCESS)
    rank = int(os.environ["RANK"])
    on_gpu = gpu >= 0 and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(gpu)
    try:
        if not dist.is_initialized():  # Ray Train has initialised it already
            backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
            size = int(os.environ["WORLD_SIZE"])
            store = os.environ.get(STORE)  # None: the address is torchrun's
            dist.init_process_group(backend, store, timeout=PATIENCE, rank=rank, world_size=size)
        return run(DistributedGroup())
    except UserError:
        if rank == 0:
            raise
        return 2
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            if rank == 0:
                raise TrainingError("another process has ended") from error
            return 1
        if rank == 0 or not isinstance(error, TrainingError):
            raise
        raise TrainingError(f"process {rank}: {error}") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # the others notice that this process has ended


def is_one_of_several() -> bool:
    """Return whether torchrun has started this process, as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


class DistributedGroup(ProcessGroup):
    """Processes of torch's default group."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.follow(aux_negative_scope=None, sync_batch_norm=True)

    def follow(self, aux_negative_scope: str | None, sync_batch_norm: bool) -> None:
        """Apply two keys; `aux_negative_scope` is `shard` by default above `LARGE`.

        `LARGE` is a number of processes.
        """
        default = "batch" if self.count <= LARGE else "shard"
        self._own_pool = (aux_negative_scope or default) == "shard"
        self._own_statistics = not sync_batch_norm

    def shard(self, batch: Batch, rows: int) -> BatchShard:
        """Return a slice of the rows, or all of them if there are fewer than processes."""
        statistics = AllRows(self._own_statistics)
        if rows < self.count:
            return _Slice(batch=batch, weight=1 / self.count, rows=statistics)
        first, last = (rows * number // self.count for number in (self.rank, self.rank + 1))
        weight = (last - first) / rows
        part = {name: values[first:last] for name, values in batch.items()}
        scope = Part(weight=weight, first_row=first, own_pool=self._own_pool, rows=statistics)
        return _Slice(batch=part, weight=weight, rows=statistics, part=scope)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum, by an all-reduce."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    def largest(self, number: int) -> int:
        """Return the largest number, by an all-reduce."""
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def exchange(self, rows: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """Exchange rows, by two all-to-alls."""
        sent = torch.tensor(counts)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        numbers = received.tolist()
        arrived = rows.new_empty(sum(numbers), *rows.shape[1:])
        dist.all_to_all_single(arrived, rows.contiguous(), numbers, counts)
        return arrived, numbers

    def wait(self) -> None:
        """Wait at a barrier."""
        self.largest(0)


class _Slice(BatchShard):
    """A slice of a batch.

    Args:
        batch: its rows.
        weight: by which its losses are weighed, so that those of all processes sum up to that of the batch.
        rows: what batch normalisation and dropout do.
        part: for the layers that ask; None where all processes have all rows of the batch.
    """

    def __init__(self, batch: Batch, weight: float, rows: AllRows, part: Part | None = None) -> None:
        super().__init__(batch)
        self._weight, self._rows, self._part = weight, rows, part

    @contextmanager
    def computed(self) -> Iterator[None]:
        """Give layers the data of other processes' rows within the context."""
        if self._part is None:
            yield
        else:
            with batch_scope.use_shard(self._part), self._rows:
                yield

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over the processes: sparse ones by rows, others in one message.

        There is one message per dtype. A parameter gets a gradient if any process has one. Row shards are left out.
        """
        (self._rows.tied(loss) * self._weight).backward()
        self._rows.agree(self._weight)
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        state = torch.tensor([0 if p.grad is None else 1 + p.grad.is_sparse for p in trained])
        dist.all_reduce(state, dist.ReduceOp.MAX)
        kinds = state.tolist()
        dense = [p for p, kind in zip(trained, kinds, strict=True) if kind == 1]
        for parameter in dense:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for place in dict.fromkeys((p.device, p.dtype) for p in dense):
            _sum_dense([p.grad for p in dense if (p.device, p.dtype) == place and p.grad is not None])
        for parameter, kind in zip(trained, kinds, strict=True):
            if kind == 2:
                parameter.grad = _sum_sparse(parameter)

    def mean(self, losses: Tensor) -> Tensor:
        """Return the weighed sum over the processes."""
        total = losses * self._weight
        dist.all_reduce(total)
        return total


def _sum_dense(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def _sum_sparse(table: nn.Parameter) -> Tensor:
    """Return the sum of the sparse gradients of all processes, which exchange rows."""
    own = table.grad.coalesce() if table.grad is not None else None
    rows = table.new_zeros(0, dtype=torch.int64) if own is None else own.indices()[0]
    values = table.new_zeros(0, table.size(1)) if own is None else own.values()
    every = torch.cat(gathered(rows)).unsqueeze(0), torch.cat(gathered(values))
    return torch.sparse_coo_tensor(*every, table.shape, check_invariants=False).coalesce()
