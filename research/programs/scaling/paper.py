"""Model of a data-parallel training step, with three ways to keep tables equal."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log2

import numpy as np

from benchmarks.report import Row

GIB = 2**30
FLOAT, ID = 4, 8
"""Bytes."""


@dataclass(frozen=True)
class Step:
    """Work of a process in a step, and its tables; by default DIEN on Electronics.

    Attributes:
        rows: rows per process.
        behaviours: behaviours per row.
        width: floats of an item's row, including its category's.
        net_weights: number of weights outside of tables.
        sums: number of synchronised sums, of batch normalisations and Dice, in both passes.
    """

    rows: int = 1024
    behaviours: int = 9
    width: int = 36
    net_weights: int = 110_000
    sums: int = 12

    @property
    def lookups(self) -> int:
        """Return the ids of a process: behaviours, a negative for each, and the target."""
        return self.rows * (2 * self.behaviours + 1)


@dataclass(frozen=True)
class Machine:
    """A process and the network between processes.

    Attributes:
        bandwidth: bytes per second that a process sends while it receives as many.
        hop: seconds of one of the 2 log2(processes) turns of a collective.
        message: of one more message to another process.
        memory: bytes for tables, their moments and gradients.
        compute: seconds of a step without tables.
        update: time of Adam's update of a row, if all are updated. touch: time of lazy Adam's, of a touched row.
        draw: seconds to draw the negative of one behaviour.
    """

    name: str
    bandwidth: float
    hop: float
    message: float
    memory: float
    compute: float
    update: float
    touch: float
    draw: float


MACHINES = (
    Machine("CPU, 25 GbE", 3e9, 50e-6, 5e-6, 64 * GIB, 60e-3, 30e-9, 900e-9, 16e-9),
    Machine("GPU, InfiniBand", 25e9, 15e-6, 1e-6, 70 * GIB, 4e-3, 0.5e-9, 5e-9, 0.5e-9),
)
"""Nominal networks. CPU times are of one core of an AMD EPYC server, as `--parts measured` finds them; those of a GPU
are assumptions."""
VOCABULARIES = tuple(10**power for power in range(4, 10))
WORKERS = (2, 8, 64, 1024)


def distinct(vocabulary: int, lookups: float) -> float:
    """Return the expected number of different items in draws by Zipf's law.

    The exponent is 1.
    """
    rank = np.unique(np.geomspace(1, vocabulary, 4000).astype(np.int64))
    width = np.diff(np.append(rank, vocabulary + 1))
    chance = np.log1p(1 / rank) / np.log(vocabulary + 1)
    return float((width * -np.expm1(lookups * np.log1p(-chance))).sum())


def dense(step: Step, machine: Machine, vocabulary: int, workers: int) -> tuple[float, float]:
    """Return the cost of `embedding_updates: dense`.

    Gradients of the size of the tables are summed, and all rows updated.

    Returns:
        Seconds, and bytes of tables, two moments and gradients.
    """
    table = vocabulary * step.width * FLOAT
    return _sum_over(machine, table, workers) + vocabulary * machine.update, 4 * table


def gathered(step: Step, machine: Machine, vocabulary: int, workers: int) -> tuple[float, float]:
    """Return the cost of `embedding_updates: sparse`; see `dense`.

    Each worker gets the touched rows of all others, and updates them.
    """
    touched = distinct(vocabulary, step.lookups)
    of_all = distinct(vocabulary, workers * step.lookups)
    sent = (workers - 1) * touched * (step.width * FLOAT + ID)
    seconds = sent / machine.bandwidth + 2 * log2(workers) * machine.hop + of_all * machine.touch
    return seconds, 3 * vocabulary * step.width * FLOAT


def owned(step: Step, machine: Machine, vocabulary: int, workers: int) -> tuple[float, float]:
    """Return the cost of `embedding_sharding: rows`; see `dense`.

    Rows come from the processes that own them, and gradients return there.
    """
    touched = distinct(vocabulary, step.lookups)
    sent = (workers - 1) / workers * touched * (ID + 2 * step.width * FLOAT)
    updated = distinct(vocabulary, workers * step.lookups) / workers
    seconds = sent / machine.bandwidth + 4 * machine.hop + 3 * workers * machine.message + updated * machine.touch
    return seconds, 3 * vocabulary * step.width * FLOAT / workers


DESIGNS: dict[str, Callable[[Step, Machine, int, int], tuple[float, float]]] = {
    "dense": dense,
    "gathered": gathered,
    "owned": owned,
}


def nets(step: Step, machine: Machine, workers: int) -> float:
    """Return the seconds of work that every design has.

    These are the gradients of the networks and the synchronised sums.
    """
    sums = step.sums * log2(workers) * machine.hop
    return _sum_over(machine, step.net_weights * FLOAT, workers) + sums


def negatives(step: Step, machine: Machine, workers: int) -> float:
    """Return the seconds to draw negatives as one process would.

    Each worker gets all behaviours, and draws for all of them.
    """
    behaviours = step.rows * step.behaviours
    return (workers - 1) * behaviours * 2 * ID / machine.bandwidth + workers * behaviours * machine.draw


def cost_rows(step: Step, machine: Machine) -> list[Row]:
    """Return one row per number of items and of workers, with the cost of designs.

    A row has the ms of each design, the fastest that fits, and its efficiency. Efficiency is one worker's computation
    relative to the whole step, with negatives of the whole batch or without their cost.
    """
    rows = []
    for vocabulary in VOCABULARIES:
        for workers in WORKERS:
            costs = {name: design(step, machine, vocabulary, workers) for name, design in DESIGNS.items()}
            fitting = {name: seconds for name, (seconds, size) in costs.items() if size <= machine.memory}
            best = min(fitting, key=lambda name: fitting[name], default=None)
            besides = nets(step, machine, workers), negatives(step, machine, workers)
            row: Row = {"items": vocabulary, "workers": workers}
            row |= {f"{name}, ms": 1000 * costs[name][0] if name in fitting else "too large" for name in DESIGNS}
            row |= {"nets, ms": 1000 * besides[0], "negatives, ms": 1000 * besides[1], "fastest": best or "none fits"}
            seconds = machine.compute + besides[0] + fitting[best] if best else None
            row["efficiency, %"] = 100 * machine.compute / (seconds + besides[1]) if seconds else None
            row["its own negatives, %"] = 100 * machine.compute / seconds if seconds else None
            row["GiB per process"] = costs[best][1] / GIB if best else None
            rows.append(row)
    return rows


def _sum_over(machine: Machine, size: float, workers: int) -> float:
    """Return the seconds of an all-reduce of some bytes, scattered and gathered."""
    return 2 * (workers - 1) / workers * size / machine.bandwidth + 2 * log2(workers) * machine.hop
