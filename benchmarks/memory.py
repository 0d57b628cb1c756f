"""Peak memory of a training step."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from .entries import Entry
from .report import Row
from .runner import Conditions, Runner, get_ready, training
from .synthetic_batches import Sizes, make_batch, make_lengths
from .worker import Worker

STATUS = Path("/proc/self/status")


def memory_rows(found: Sequence[Entry], sizes: Sizes, rows: int, conditions: Conditions) -> list[Row]:
    """Return one row per system: peak memory of the first step on full histories."""
    make = partial(make_batch, sizes, make_lengths("full", rows, sizes.max_len))
    measured = []
    for entry in tqdm(found, "peak memory", leave=False, disable=None):
        with Worker(partial(get_ready, entry, sizes, make, conditions, training), fresh=True) as worker:
            peak = worker.ask(peak_of_step)
        measured.append({"system": entry.name, "work": entry.work.name, "peak MiB": peak / 2**20})
    return measured


def peak_of_step(runner: Runner) -> int:
    """Return the bytes that the first step adds to the memory of this process.

    They include the optimizer's state. The value is the highest resident size during the step (VmHWM, which Linux lets
    a process reset) minus the size before.
    """
    torch.set_num_threads(1)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    runner.task()
    return resident_bytes("VmHWM") - before


def resident_bytes(name: str) -> int:
    """Return the bytes of this process: `VmRSS`, now in memory, or `VmHWM`, the peak.

    `getrusage` does not work: its maximum starts with that of the parent process.
    """
    return 1024 * next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
