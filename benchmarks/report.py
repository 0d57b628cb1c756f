"""Common output of benchmarks: tables, notes, the machine, the versions."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.markdown import padded_table
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.common.revision import revision
from dien_fuxictr.experiment.report import cpu_name, versions

PACKAGES = ("torch", "numpy", "fuxictr", "deepctr-torch", "torch-rechub")

Row = dict[str, Any]
"""Header -> value; a list is for the JSON alone."""


def make_parser(program: str, description: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark.

    Args:
        program: its module, e.g. benchmarks.epoch.
        description: text for --help.
        rounds: default of --rounds.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=rounds,
        metavar="N",
        help=f"number of interleaved measurements of each system; the best is reported; default {rounds}",
    )
    parser.add_argument("--json", type=new_json, metavar="FILE", help="write all measurements to FILE")
    return parser


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`, for benchmarks that use each system's best number of threads."""
    default = sorted({1, torch.get_num_threads()})
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=default,
        metavar="N",
        help="numbers of torch's threads to try; each system is reported with its best; "
        f"default {' '.join(map(str, default))}",
    )


def new_json(path: str) -> Path:
    """Return the file of `--json`, for argparse."""
    try:
        require_output("--json", Path(path))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(path)


def publish(
    program: str,
    tables: Mapping[str, Sequence[Row]],
    notes: Sequence[str] = (),
    json_file: Path | None = None,
    zoo: Path | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Print the tables as Markdown with the line of the machine, and write the JSON.

    Args:
        program: its module, whose last name is the program's in the JSON.
        tables: title -> rows, all with the same headers; one without rows is left out.
        notes: what a reader must know, e.g. what was left out.
        json_file: where to write; None: nowhere.
        zoo: the FuxiCTR checkout that was measured.
        arguments: the command line; None: the process's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    command = shlex.join(["python", "-m", program, *arguments])
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    about = {
        "program": program.rpartition(".")[2],
        "command": command,
        "date": f"{date.today()}",
        "commit": revision(Path(__file__).parents[1]),
        "hardware": {"device": cpu_name(), "cpus": os.cpu_count(), **gpu},
        "versions": versions(PACKAGES) | ({"FuxiCTR checkout": revision(zoo)} if zoo else {}),
    }
    tables = {title: rows for title, rows in tables.items() if rows}
    for title, rows in tables.items():
        print(f"### {title}\n\n{as_markdown(rows)}\n")
    for note in notes:
        print(f"- {note}")
    print(machine_line(about))
    if json_file:
        json_file.write_text(json.dumps({**about, "notes": list(notes), "tables": tables}, indent=2))


def machine_line(about: dict[str, Any]) -> str:
    """Return `Processor, n CPUs; versions; commit; date; command` in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    hardware = about["hardware"]
    gpu = f", {hardware['gpu']}" if "gpu" in hardware else ""
    return (
        f"\n{hardware['device']}, {hardware['cpus']} CPUs{gpu}; {packages}; commit {about['commit']}; "
        f"{about['date']}; `{about['command']}`"
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the table without the values that are only for JSON."""
    header = [name for name, value in rows[0].items() if not isinstance(value, (list, dict))]
    return padded_table(header, [[_cell(row[name]) for name in header] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
