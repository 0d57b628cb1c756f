"""Measure every command from raw files of the paper's size to an epoch of DIEN.

Seconds, peak memory and disk are measured. A synthetic log (`research.programs.raw_reviews`) is written, and the
commands of research/reproduce.md run one after the other, each with its output in a file; with `--log Taobao` the log
is larger than memory, and the commands are those of `research.programs.taobao`. A peak is that of the command's largest
process; private memory is without the pages of files, which the system can reclaim.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import Row, new_json, publish
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.experiment.report import RESULT

from . import taobao
from .commands import PREPARE, ROOT, Step, measure, rows_of
from .raw_reviews import LOGS, add_log_options

REPORT = "report"
PROTOCOLS = ("last", "leave_one_out")


def steps(options: argparse.Namespace) -> list[Step]:
    """Return the measured steps, in order."""
    name, data_set = options.log, f"amazon_{options.log.lower()}"
    raw = {"reviews": f"data/raw/reviews_{name}_5.json.gz", "meta": f"data/raw/meta_{name}.json.gz"}
    python, config, expid = sys.executable, str(ROOT / "config"), f"DIEN_{data_set}"
    make = [python, "-m", "research.programs.raw_reviews", "data/raw", "--log", name, "--share", str(options.share)]
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
        Step(
            "the synthetic log",
            "raw",
            [*make, "--seed", str(options.seed)],
            rows=LOGS[name].share(options.share).reviews,
        ),
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


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exit with code 2 on a wrong one."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.full_size",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="new folder for all files; it is not deleted")
    add_log_options(parser, [*LOGS, taobao.NAME])
    parser.add_argument(
        "--protocols",
        nargs="+",
        choices=PROTOCOLS,
        default=PROTOCOLS,
        help="protocols of the samples that build_dataset.py builds; default both; the experiment, run last, has the "
        "protocol of its data set",
    )
    parser.add_argument("--json", type=new_json, metavar="FILE", help="write all measurements to FILE")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit code, 1 where a command fails."""
    options = parse_arguments(arguments)
    return run_command(lambda: _run(options, arguments), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    folder = options.folder.absolute()
    if folder.exists():
        raise UserError(f"{options.folder} already exists; name a new folder")
    folder.mkdir(parents=True)
    if options.log == taobao.NAME:
        taobao.write_entries(folder)
    commands = taobao.steps(options) if options.log == taobao.NAME else steps(options)
    rows = [measure(step, folder) | {"rows": rows_of(step, folder)} for step in commands]
    tables, notes = taobao.results(folder, rows) if options.log == taobao.NAME else results(folder, rows, options)
    publish("research.programs.full_size", tables, notes, options.json, arguments=arguments)
    return 0


def results(folder: Path, rows: list[Row], options: argparse.Namespace) -> tuple[dict[str, list[Row]], list[str]]:
    """Return tables by title, and notes."""
    log = LOGS[options.log].share(options.share)
    trained = json.loads((folder / REPORT / RESULT).read_text())
    title = f"{log.users:,} users, {log.items:,} items, {log.reviews:,} reviews, as {options.log}"
    notes = [
        "rows: reviews, then samples of the three splits, at last those that are trained on",
        f"the epoch's training alone: {trained['train_seconds']:,.0f} s; {trained['parameters']:,} weights",
    ]
    return {title: rows}, notes


if __name__ == "__main__":
    sys.exit(main())
