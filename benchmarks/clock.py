"""Timing on a machine that may be busy with other things too."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

try:
    from tqdm import tqdm
except ImportError:  # on a machine that has torch and triton alone
    tqdm = None

Key = TypeVar("Key", bound=Hashable)


def interleaved(tasks: Mapping[Key, Callable[[], Any]], rounds: int, turn_seconds: float = 0.2
                ) -> dict[Key, list[float]]:
    """Seconds that a call of each task takes, one figure a round.

    Every task has its turn in every round, so that what slows the machine for a while slows all alike; the order is
    turned round each time, so that none always follows the same. Compare the best, or the medians, of one run. What a
    GPU in use has not finished is waited for. On a terminal, stderr shows how far it is.

    Args:
        tasks: what to call; each is called twice before, untimed.
        rounds: figures a task.
        turn_seconds: a short task is called over and over in a turn, for about so long: the first call finds the caches
            full of what the others had there, which does not happen in a training.
    """
    order = list(tasks)
    turns = [key for number in range(rounds) for key in (order if number % 2 == 0 else order[::-1])]
    calls: dict[Key, int] = {}
    times: dict[Key, list[float]] = {key: [] for key in tasks}
    for key in tqdm([*order, *turns], "measuring", leave=False, disable=None) if tqdm else [*order, *turns]:
        if key in calls:
            times[key].append(seconds_of(tasks[key], calls[key]))
        else:
            tasks[key]()
            calls[key] = max(1, round(turn_seconds / seconds_of(tasks[key])))
    return times


def seconds_of(task: Callable[[], Any], calls: int = 1) -> float:
    """Of a call, the mean of so many."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else None
    start = time.perf_counter()
    for _ in range(calls):
        task()
        if wait:
            wait()
    return (time.perf_counter() - start) / calls


def by_threads(task: Callable[[], Any], threads: Sequence[int]) -> dict[int, Callable[[], Any]]:
    """The task on each number of torch's threads."""
    return {number: partial(_on_threads, number, task) for number in threads}


def _on_threads(number: int, task: Callable[[], Any]) -> None:
    torch.set_num_threads(number)
    task()
