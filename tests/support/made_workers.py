"""Processes that train together in a test: forks with all imports done."""

import faulthandler
import multiprocessing
import os
import pickle
import signal
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # the first optimizer does in 2 s, in each fork
import torch.distributed as dist

from dien_fuxictr.distributed.distributed_group import DistributedGroup
from dien_fuxictr.experiment.process_group import ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer

PORT = str(20_000 + os.getpid() % 10_000)
TIMEOUT = 300
"""Seconds; what takes longer hangs."""


def together(count: int, folder: Path, work: Callable[[ProcessGroup], Any]) -> list[Any]:
    """Return the results of the work in each process, in order.

    A hang or an error fails the test.
    """
    meeting = folder / f"meeting_{time.monotonic_ns()}"

    def join(rank: int) -> Any:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
        return work(DistributedGroup())

    return _forks(count, folder, join)


def as_torchrun(count: int, folder: Path, run: Callable[[], int]) -> list[int]:
    """Return the exit codes of processes that run a command as if under torchrun."""

    def be_started(rank: int) -> int:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": PORT}
        return run()

    return _forks(count, folder, be_started)


def _forks(count: int, folder: Path, work: Callable[[int], Any]) -> list[Any]:
    """Return the results of the work of each rank, in a separate fork.

    A fork joins at most one group: a process that leaves a group while others use it may end the others.
    """
    name = f"answer_{time.monotonic_ns()}"
    context = multiprocessing.get_context("fork")
    answers = [folder / f"{name}.{rank}" for rank in range(count)]
    processes = [context.Process(target=_work, args=(work, rank, answers[rank])) for rank in range(count)]
    for process in processes:
        process.start()
    deadline = time.monotonic() + TIMEOUT
    while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
        if any(process.exitcode and not answer.exists() for process, answer in zip(processes, answers, strict=True)):
            break  # one process has died, and the others would wait for it
        wait([process.sentinel for process in processes if process.is_alive()], timeout=1)
    ends = ["has not come to an end" if process.is_alive() else f"{process.exitcode}" for process in processes]
    for process in processes:
        process.kill()
        process.join()
    if missing := [rank for rank, answer in enumerate(answers) if not answer.exists()]:
        where = "\n".join(_stack(answer).read_text() for answer in answers)
        pytest.fail(f"no answer of the workers {missing} of {count}; exit codes: {', '.join(ends)}\n{where}")
    every = [pickle.loads(answer.read_bytes()) for answer in answers]
    for ok, value in every:
        if not ok:
            pytest.fail(value)
    return [value for _, value in every]


def signalled(workspace: Any, folder: Path) -> list[int]:
    """Return the exit codes of two processes that train the experiment X.

    The second gets SIGTERM in its first step.
    """
    train_step = Trainer.train_step

    def step(trainer: Trainer, batch: dict[str, torch.Tensor]) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return train_step(trainer, batch)

    def run() -> int:
        if os.environ["RANK"] == "1":
            Trainer.train_step = step  # in this fork
        return workspace.run(expid="X")

    return as_torchrun(2, folder, run)


def _work(work: Callable[[int], Any], rank: int, answer: Path) -> None:
    torch.set_num_threads(1)
    stack = _stack(answer).open("w")
    faulthandler.dump_traceback_later(TIMEOUT - 5, file=stack)
    try:
        result = True, work(rank)
    except Exception:
        result = False, traceback.format_exc()
    answer.write_bytes(pickle.dumps(result))
    if result[0] and dist.is_initialized():
        dist.destroy_process_group()


def _stack(answer: Path) -> Path:
    """Return the file with the stack of a process that hangs."""
    return answer.with_name(f"{answer.name}.stack")
