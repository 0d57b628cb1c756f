"""Commands in processes of their own: seconds, peak memory and disk of each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import Row
from dien_fuxictr.common.errors import TrainingError
from dien_fuxictr.dataset.samples.protocols import SPLITS

ROOT = Path(__file__).parents[2]
PREPARE = """
import logging, sys
from dien_fuxictr import open_experiment
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
open_experiment(sys.argv[1], sys.argv[2]).prepare()
"""
"""Builds the data set of an experiment."""
MEASURE = """
import json, resource, subprocess, sys
command, private = subprocess.Popen(sys.argv[2:]), 0
while command.returncode is None:
    try:
        with open(f"/proc/{command.pid}/status") as status:
            private = max(private, *(1024 * int(line.split()[1]) for line in status if line.startswith("RssAnon")), 0)
        command.wait(0.02)
    except (OSError, subprocess.TimeoutExpired):
        command.poll()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss, private], file)
sys.exit(command.returncode)
"""
"""A small process between this one and the command: what the system counts as a command's peak begins with the memory
of the process that started it."""


class Step(NamedTuple):
    """A command, and where it says how many rows there are.

    Attributes:
        title: in the table. name: of the files of its output.
        command: with paths from the folder. samples: folder of the samples that it makes or reads.
        splits: of them, those that it works on. rows: how many there are, where it makes no samples.
    """

    title: str
    name: str
    command: list[str]
    samples: str | None = None
    splits: Sequence[str] = SPLITS
    rows: int = 0


def measure(step: Step, folder: Path) -> Row:
    """Run the command in the folder, its output in NAME.log there.

    Raises:
        TrainingError: it fails; with the end of its output.
    """
    log, usage = folder / f"{step.name}.log", folder / f"{step.name}.json"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before, start = size_of(folder), time.perf_counter()
    print(f"{step.title} ... (output in {log})", file=sys.stderr, flush=True)
    with open(log, "w") as output:
        code = subprocess.call(
            [sys.executable, "-I", "-S", "-c", MEASURE, str(usage), *step.command],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
        )
    seconds = time.perf_counter() - start
    if code:
        end = " ".join(log.read_text().splitlines()[-3:])
        raise TrainingError(f"{step.title} failed with exit code {code}: {end}")
    cpu, peak, private = json.loads(usage.read_text())
    row = {"step": step.title, "s": seconds, "CPU s": cpu, "peak memory, GB": peak / 1e9, "private, GB": private / 1e9}
    print(f"{step.title}: {seconds:.0f} s, {peak / 1e9:.2f} GB", file=sys.stderr, flush=True)
    return row | {"written, GB": (size_of(folder) - before) / 1e9}


def size_of(folder: Path) -> int:
    """Return the bytes of its files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def rows_of(step: Step, folder: Path) -> int:
    """Return the number of samples of a step, or the one that it states."""
    if not step.samples:
        return step.rows
    counts = json.loads((folder / step.samples / "samples.json").read_text())["counts"]
    return sum(counts[split]["rows"] for split in step.splits)
