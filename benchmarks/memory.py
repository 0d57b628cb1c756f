"""Peak memory of a training step, each system in a process of its own."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from tqdm import tqdm

from .entries import Entry, entries
from .made import Sizes, make_batch, make_lengths
from .race import padded_for, set_malloc
from .report import Row

STATUS = Path("/proc/self/status")


def memory_rows(found: Sequence[Entry], sizes: Sizes, rows: int, trim: str, malloc: str, zoo: Path | None
                ) -> list[Row]:
    """A row a system: the peak of its first step on a batch whose histories are all full."""
    measured = []
    for number, entry in enumerate(tqdm(found, "peak memory", leave=False, disable=None)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            peak = process.submit(peak_of_step, number, sizes, rows, trim, malloc, zoo).result()
        measured.append({"system": entry.name, "work": entry.work.name, "peak MiB": peak / 2**20})
    return measured


def peak_of_step(number: int, sizes: Sizes, rows: int, trim: str, malloc: str, zoo: Path | None) -> int:
    """Bytes that the first step, with the optimizer's state, adds to the memory of this process.

    It is the highest resident size during the step (VmHWM, which Linux lets a process reset) less the one before.

    Args:
        number: of the entry. sizes, trim, malloc, zoo: as of the other measurements. rows: of the batch.
    """
    set_malloc(malloc)
    torch.set_num_threads(1)
    system = entries(zoo)[0][number].build(sizes)
    batch = system.prepare(padded_for(system, make_batch(sizes, make_lengths("full", rows, sizes.max_len)), trim))
    system.model.train()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    system.step(batch)
    return resident_bytes("VmHWM") - before


def resident_bytes(name: str) -> int:
    """Of this process: `VmRSS`, now in memory, or `VmHWM`, the most so far.

    `getrusage` does not do: its maximum begins with that of the process that started this one.
    """
    return 1024 * next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
