"""Timing on a machine that may be busy with other things too."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch

try:
    from tqdm import tqdm
except ImportError:  # the machine may have only torch and triton
    tqdm = None

Key = TypeVar("Key", bound=Hashable)


class Best(NamedTuple):
    """The best time of a task on its best number of torch's threads.

    Attributes:
        seconds: of a call. threads: that number. every: number -> a figure a round, for the JSON.
    """

    seconds: float
    threads: int
    every: dict[str, list[float]]


def interleaved(
    tasks: Mapping[Key, Callable[[], Any]], rounds: int, turn_seconds: float = 0.2
) -> dict[Key, list[float]]:
    """Return the seconds per call of each task, one per round; see `take_turns`."""
    return take_turns({key: partial(seconds_of, task) for key, task in tasks.items()}, rounds, turn_seconds)


def on_best_threads(
    timers: Mapping[Key, Callable[[int, int], float]], threads: Sequence[int], rounds: int
) -> dict[Key, Best]:
    """Return the best time of each task over the numbers of threads.

    Tasks take turns on every number of threads.

    Args:
        timers: functions of the numbers of threads and of calls that return seconds per call; see `seconds_on`.
        threads: numbers of threads.
        rounds: number of rounds.
    """
    times = take_turns(
        {(key, number): partial(timer, number) for key, timer in timers.items() for number in threads}, rounds
    )
    found = {}
    for key in timers:
        every = {number: times[key, number] for number in threads}
        seconds, number = min((min(figures), number) for number, figures in every.items())
        found[key] = Best(seconds, number, {str(number): figures for number, figures in every.items()})
    return found


def take_turns(
    timers: Mapping[Key, Callable[[int], float]], rounds: int, turn_seconds: float = 0.2
) -> dict[Key, list[float]]:
    """Return the seconds per call of each task, one figure per round.

    Every task has its turn in every round, so that a temporary slowdown of the machine affects all tasks equally. The
    order is reversed each time, so that no task always follows the same other one. Compare the best times, or the
    medians, of one run. On a terminal, stderr shows the progress.

    Args:
        timers: functions of a number of calls that return the seconds per call; each calls twice before, untimed.
        rounds: figures per task.
        turn_seconds: a short task is called over and over in a turn, for about so long: the first call finds the caches
            full of what the others had there, which does not happen in a training.
    """
    order = list(timers)
    turns = [key for number in range(rounds) for key in (order if number % 2 == 0 else order[::-1])]
    calls: dict[Key, int] = {}
    times: dict[Key, list[float]] = {key: [] for key in timers}
    for key in tqdm([*order, *turns], "measuring", leave=False, disable=None) if tqdm else [*order, *turns]:
        if key in calls:
            times[key].append(timers[key](calls[key]))
        else:
            timers[key](1)
            calls[key] = max(1, round(turn_seconds / timers[key](1)))
    return times


def seconds_of(task: Callable[[], Any], calls: int = 1) -> float:
    """Return the mean seconds of a call, including unfinished work of a GPU in use."""
    wait = torch.cuda.synchronize if torch.cuda.is_initialized() else None
    start = time.perf_counter()
    for _ in range(calls):
        task()
        if wait:
            wait()
    return (time.perf_counter() - start) / calls


def seconds_on(task: Callable[[], Any], threads: int, calls: int) -> float:
    """Return `seconds_of` a task on a number of torch's threads."""
    torch.set_num_threads(threads)
    return seconds_of(task, calls)
