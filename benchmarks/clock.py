"""Timing on a machine that may be busy with other things too."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)


def interleaved(tasks: Mapping[Key, Callable[[], Any]], rounds: int, turn_seconds: float = 0.05
                ) -> dict[Key, list[float]]:
    """Seconds that a call of each task takes, one figure a round.

    Every task has its turn in every round, so that what slows the machine for a while slows all alike; the order is
    turned round each time, so that none always follows the same. Compare the best, or the medians, of one run.

    Args:
        tasks: what to call; each is called twice before, untimed.
        rounds: figures a task.
        turn_seconds: a short task is called over and over in a turn, for about so long.
    """
    calls = {}
    for key, task in tasks.items():
        task()
        calls[key] = max(1, round(turn_seconds / seconds_of(task)))
    times: dict[Key, list[float]] = {key: [] for key in tasks}
    order = list(tasks)
    for _ in range(rounds):
        for key in order:
            start = time.perf_counter()
            for _ in range(calls[key]):
                tasks[key]()
            times[key].append((time.perf_counter() - start) / calls[key])
        order.reverse()
    return times


def seconds_of(task: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def by_threads(task: Callable[[], Any], threads: Sequence[int]) -> dict[int, Callable[[], Any]]:
    """The task on each number of torch's threads."""
    return {number: partial(_on_threads, number, task) for number in threads}


def _on_threads(number: int, task: Callable[[], Any]) -> None:
    torch.set_num_threads(number)
    task()
