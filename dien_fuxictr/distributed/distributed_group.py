"""Several processes that train a model together, each with its slice of every batch.

Not run yet: processes on GPUs, whose gradients go by NCCL. Tests run gloo, on the CPU of one machine.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, Batch, BatchShard, ProcessGroup
from model_zoo.DIEN.src.layers import batch_scope

from .batch_wide import AllRows, Part, gathered
from .launcher import STORE

LARGE = 16
"""Of more workers each draws negatives from its own rows: the time to draw for all of them grows with their number."""
PATIENCE = timedelta(hours=6)
"""How long workers wait for the leader to build a data set; that one of them has ended they see at once."""


def run_in_group(run: Callable[[ProcessGroup], int], gpu: int) -> int:
    """Run a command on each of the workers that torchrun or Ray Train has started, or alone.

    Args:
        run: returns an exit code.
        gpu: this worker's, whose gradients go by NCCL; -1 for the CPU, by gloo.

    Returns:
        Its code. What all workers refuse alike the leader says; the others only return the code.

    Raises:
        TrainingError: another worker has ended, too.
    """
    if not is_worker():
        return run(SINGLE_PROCESS)
    rank = int(os.environ["RANK"])
    on_gpu = gpu >= 0 and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(gpu)
    try:
        if not dist.is_initialized():  # by Ray Train
            backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
            size = int(os.environ["WORLD_SIZE"])
            store = os.environ.get(STORE)  # None: where torchrun says
            dist.init_process_group(backend, store, timeout=PATIENCE, rank=rank, world_size=size)
        return run(DistributedGroup())
    except UserError:
        if rank == 0:
            raise
        return 2
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            if rank == 0:
                raise TrainingError("another worker has ended") from error
            return 1
        if rank == 0 or not isinstance(error, TrainingError):
            raise
        raise TrainingError(f"worker {rank}: {error}") from error
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # the others see that this one has ended


def is_worker() -> bool:
    """Whether torchrun has started this process, as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


class DistributedGroup(ProcessGroup):
    """The processes of torch's default group."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.follow({})

    def follow(self, params: Mapping[str, Any]) -> None:
        """By `aux_negative_scope`, by default `shard` for more than `LARGE` processes, and `sync_batch_norm`."""
        default = "batch" if self.count <= LARGE else "shard"
        self._own_pool = params.get("aux_negative_scope", default) == "shard"
        self._own_statistics = not params.get("sync_batch_norm", True)

    def shard(self, batch: Batch, rows: int) -> BatchShard:
        """A slice of its rows, as even as can be; of fewer rows than workers all of it: everyone does the same."""
        statistics = AllRows(self._own_statistics)
        if rows < self.count:
            return _Slice(batch, 1 / self.count, statistics)
        first, last = (rows * number // self.count for number in (self.rank, self.rank + 1))
        weight = (last - first) / rows
        part = {name: values[first:last] for name, values in batch.items()}
        return _Slice(part, weight, statistics, Part(weight, self._own_pool))

    def sum(self, values: Tensor) -> Tensor:
        """By an all-reduce."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    def largest(self, number: int) -> int:
        """By an all-reduce."""
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def exchange(self, rows: Tensor, counts: list[int]) -> tuple[Tensor, list[int]]:
        """By two all-to-alls."""
        sent = torch.tensor(counts)
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent)
        numbers = received.tolist()
        arrived = rows.new_empty(sum(numbers), *rows.shape[1:])
        dist.all_to_all_single(arrived, rows.contiguous(), numbers, counts)
        return arrived, numbers

    def wait(self) -> None:
        """At a barrier."""
        self.largest(0)


class _Slice(BatchShard):
    """A slice of a batch.

    Args:
        batch: its rows.
        weight: by which its losses are weighed, so that those of all workers sum up to that of the batch.
        rows: what batch normalisation and dropout do.
        part: for the layers that ask; None where all workers have the same rows, all of the batch, and know what they
            must.
    """

    def __init__(self, batch: Batch, weight: float, rows: AllRows, part: Part | None = None) -> None:
        super().__init__(batch)
        self._weight, self._rows, self._part = weight, rows, part

    @contextmanager
    def computed(self) -> Iterator[None]:
        """Layers have what they need of the other workers' rows."""
        if self._part is None:
            yield
        else:
            with batch_scope.use_shard(self._part), self._rows:
                yield

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Gradients are summed over the workers, sparse ones by their rows, the others in one message a type.

        A parameter has a gradient where it has one on any worker. Row shards are not among them.
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
        """The weighed sum over the workers."""
        total = losses * self._weight
        dist.all_reduce(total)
        return total


def _sum_dense(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.view_as(gradient))


def _sum_sparse(table: nn.Parameter) -> Tensor:
    """Each worker sends the rows that it has."""
    own = table.grad.coalesce() if table.grad is not None else None
    rows = table.new_zeros(0, dtype=torch.int64) if own is None else own.indices()[0]
    values = table.new_zeros(0, table.size(1)) if own is None else own.values()
    every = torch.cat(gathered(rows)).unsqueeze(0), torch.cat(gathered(values))
    return torch.sparse_coo_tensor(*every, table.shape, check_invariants=False).coalesce()
