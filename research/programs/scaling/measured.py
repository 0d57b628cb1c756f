"""Measure training steps of one and of two workers, and their communication."""

import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.clock import interleaved, seconds_on, take_turns
from benchmarks.entries import build_own
from benchmarks.report import Row
from benchmarks.synthetic_batches import Sizes, make_batch, make_lengths, trimmed
from benchmarks.systems import NET
from benchmarks.worker import Worker
from dien_fuxictr.distributed.distributed_group import DistributedGroup
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS
from dien_fuxictr.experiment.training.optimizers import LazyAdam, update_sparsely
from dien_fuxictr.experiment.training.step import clip_groups, take_step
from dien_fuxictr.experiment.training.weight_store import WeightStore
from model_zoo.DIEN.src.aux_negatives import BatchPool, draw_against

from .paper import Step

FLOATS = (1, 10_000, 1_000_000, 10_000_000)
"""Sizes of the sums that are timed."""
UPDATES = ("dense", "sparse")
TABLE = 1_000_000
"""Rows of the table that is updated alone."""

Task = Callable[[], Any]


class Members(NamedTuple):
    """Processes that take a step together.

    Attributes:
        name: name for tables.
        processes: number of processes; 0 for one without a group.
        times: rows, as multiples of --rows.
    """

    name: str
    processes: int
    times: int = 1


MEMBERS = (
    Members("one process", 0),
    Members("one worker, alone in its group", 1),
    Members("two workers, the same batch", 2),
    Members("two workers, twice the batch", 2, 2),
)


def step_rows(sizes: Sizes, rows: int, rounds: int) -> list[Row]:
    """Return training steps with one thread per process, for each of `MEMBERS`.

    Updates are dense and sparse.

    Args:
        sizes: sizes of the data set and the model.
        rows: rows of a batch.
        rounds: number of rounds.
    """
    tasks = {
        (updates, members): [
            partial(_training, sizes, rows * members.times, updates == "sparse", rank, members.processes, port)
            for rank in range(max(1, members.processes))
        ]
        for updates in UPDATES
        for members in MEMBERS
        for port in [_free_port()]
    }
    times = _race(tasks, rounds)
    found = []
    for (updates, members), seconds in times.items():
        alone = rows / min(times[updates, MEMBERS[0]])
        rate = rows * members.times / min(seconds)
        found.append(
            {
                "embedding_updates": updates,
                "who": members.name,
                "rows": rows * members.times,
                "ms": 1000 * min(seconds),
                "samples/s": rate,
                "beside one process": rate / alone,
                "seconds": seconds,
            }
        )
    return found


def sum_rows(rounds: int) -> list[Row]:
    """Return sums over two workers, by the number of floats."""
    tasks = {
        floats: [partial(_summing, floats, rank, port) for rank in range(2)]
        for floats in FLOATS
        for port in [_free_port()]
    }
    times = _race(tasks, rounds)
    return [
        {"floats": floats, "ms": 1000 * min(seconds), "GB/s": 4e-9 * floats / min(seconds), "seconds": seconds}
        for floats, seconds in times.items()
    ]


def piece_rows(rounds: int) -> list[Row]:
    """Return the costs per row and draw of the model on paper, on one thread here."""
    torch.set_num_threads(1)
    table, touched = (nn.Parameter(torch.randn(TABLE, Step().width)) for _ in range(2))
    table.grad = torch.randn_like(table)
    adam, lazy = torch.optim.Adam([table], fused=True), LazyAdam([touched], 1e-3)
    ids = torch.randperm(TABLE)[: TABLE // 50].sort().values
    touched.grad = torch.sparse_coo_tensor(
        ids.unsqueeze(0), torch.randn(len(ids), Step().width), touched.shape, is_coalesced=True, check_invariants=False
    )
    behaviours = torch.randint(TABLE, (2, Step().rows * Step().behaviours))
    pieces = {
        "Adam, a row of a table": (adam.step, TABLE),
        "lazy Adam, a touched row": (lazy.step, len(ids)),
        "a negative of the batch": (
            lambda: draw_against(BatchPool(behaviours), behaviours[0], 1),
            behaviours.size(1),
        ),
    }
    times = interleaved({name: task for name, (task, _) in pieces.items()}, rounds)
    return [
        {"what": name, "ns": 1e9 * min(times[name]) / count, "seconds": times[name]}
        for name, (_, count) in pieces.items()
    ]


def _race(tasks: Mapping[Any, Sequence[Callable[[], Task]]], rounds: int) -> dict[Any, list[float]]:
    """Return seconds per call of each task, one figure per round.

    Only one task runs at a time.

    Args:
        tasks: name -> functions that build the task in each of its processes.
        rounds: number of rounds.
    """
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        groups = {}
        for name, makers in tasks.items():
            workers = [Worker(maker) for maker in makers]
            # entered in parallel: they wait for each other
            groups[name] = list(threads.map(stack.enter_context, workers))

        def timer(workers: Sequence[Worker[Task]], calls: int) -> float:
            return max(threads.map(lambda worker: worker.ask(seconds_on, 1, calls), workers))

        return take_turns({name: partial(timer, workers) for name, workers in groups.items()}, rounds)


def _join(rank: int, count: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)


def _training(sizes: Sizes, rows: int, sparse: bool, rank: int, count: int, port: int) -> Task:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model: Any = build_own(sizes, NET, "compiled").model.train()
    if sparse:
        update_sparsely(WeightStore(model))
    if count:
        _join(rank, count, port)
    batch = trimmed(make_batch(sizes, make_lengths("amazon", rows, sizes.max_len)))
    store = WeightStore(model, DistributedGroup() if count else SINGLE_PROCESS)
    return partial(take_step, store, clip_groups(model), batch, 10.0, "a benchmark")


def _summing(floats: int, rank: int, port: int) -> Task:
    _join(rank, 2, port)
    return partial(dist.all_reduce, torch.zeros(floats))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
