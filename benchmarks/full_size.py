"""From raw files as large as the paper's to an epoch of DIEN: seconds, peak memory and disk of each command.

A made log is written (`benchmarks.raw_reviews`), and the commands of docs/reproduce.md run one after the other where it
is, each with its output in a file beside it. A peak is that of the command's largest process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dien_fuxictr.common.errors import TrainingError, UserError, exit_code
from dien_fuxictr.dataset.samples.protocols import SPLITS
from dien_fuxictr.experiment.report import RESULT

from .raw_reviews import LOGS, add_log_options
from .report import Row, publish

ROOT = Path(__file__).parents[1]
REPORT = "report"
PROTOCOLS = ("last", "leave_one_out")
PREPARE = """
import logging, sys
from dien_fuxictr.experiment import open_experiment
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
open_experiment(sys.argv[1], sys.argv[2]).prepare()
"""
MEASURE = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss], file)
sys.exit(code)
"""
"""A small process between this one and the command: what the system counts as a command's peak begins with the memory
of the process that started it."""


class Step(NamedTuple):
    """A command, and where it says how many rows there are.

    Attributes:
        title: in the table. name: of the files of its output.
        command: with paths from the folder. samples: folder of the samples that it makes or reads.
        splits: of them, those that it works on.
    """

    title: str
    name: str
    command: list[str]
    samples: str | None = None
    splits: Sequence[str] = SPLITS


def steps(options: argparse.Namespace) -> list[Step]:
    """What is measured, in order."""
    name, data_set = options.log, f"amazon_{options.log.lower()}"
    raw = {"reviews": f"data/raw/reviews_{name}_5.json.gz", "meta": f"data/raw/meta_{name}.json.gz"}
    python, config, expid = sys.executable, str(ROOT / "config"), f"DIEN_{data_set}"
    make = [python, "-m", "benchmarks.raw_reviews", "data/raw", "--log", name, "--share", str(options.share)]
    build = [python, str(ROOT / "build_dataset.py"), "amazon", "--reviews", raw["reviews"], "--meta", raw["meta"]]
    train = [
        python,
        str(ROOT / "run_expid.py"),
        "--config",
        config,
        "--expid",
        expid,
        "--set",
        "epochs=1",
        "--report",
        REPORT,
    ]
    entry = f"data/{data_set}/samples"
    return [
        Step("the made log", "raw", [*make, "--seed", str(options.seed)]),
        *(
            Step(
                f"build_dataset.py, {protocol}",
                protocol,
                [*build, "--protocol", protocol, "--max-len", "100", "--session-gap", "604800", "--out", out],
                out,
            )
            for protocol in options.protocols
            for out in [f"data/{protocol}_samples"]
        ),
        Step(f"{data_set}: samples, encoding", "encoding", [python, "-c", PREPARE, expid, config], entry),
        Step(f"{expid}: an epoch, evaluation", "epoch", train, entry, ["train"]),
    ]


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
        raise TrainingError(f"{step.title} has ended with code {code}: {end}")
    cpu, peak = json.loads(usage.read_text())
    row = {"step": step.title, "s": seconds, "CPU s": cpu, "peak memory, GB": peak / 1e9}
    print(f"{step.title}: {seconds:.0f} s, {peak / 1e9:.2f} GB", file=sys.stderr, flush=True)
    return row | {"written, GB": (size_of(folder) - before) / 1e9}


def size_of(folder: Path) -> int:
    """Bytes of its files."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def rows_of(folder: Path, splits: Iterable[str]) -> int:
    """Of samples."""
    counts = json.loads((folder / "samples.json").read_text())["counts"]
    return sum(counts[split]["rows"] for split in splits)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="new folder to work in; it stays")
    add_log_options(parser)
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=PROTOCOLS,
        help="which samples build_dataset.py makes; default both; the experiment has its entry's, last",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit code, 1 where a command fails."""
    options = parse_arguments(arguments)
    return exit_code(lambda: _run(options, arguments), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    folder = options.folder.absolute()
    if folder.exists():
        raise UserError(f"{options.folder} exists: name a new folder")
    folder.mkdir(parents=True)
    log = LOGS[options.log].share(options.share)
    rows = [
        measure(step, folder) | {"rows": rows_of(folder / step.samples, step.splits) if step.samples else log.reviews}
        for step in steps(options)
    ]
    trained = json.loads((folder / REPORT / RESULT).read_text())
    title = f"{log.users:,} users, {log.items:,} items, {log.reviews:,} reviews, as {options.log}"
    notes = [
        "rows: reviews, then samples of the three splits, at last those that are trained on",
        f"the epoch's training alone: {trained['train_seconds']:,.0f} s; {trained['parameters']:,} weights",
    ]
    publish("full_size", {title: rows}, notes, options.json, arguments=arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
