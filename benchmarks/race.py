"""All systems on one batch, side by side."""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiment.allocator import keep_freed_memory

from .clock import by_threads, interleaved
from .entries import Entry
from .made import LENGTHS, Sizes, trimmed
from .report import Row, add_threads, make_parser
from .systems import System

TRIM = ("own", "all", "none")
MALLOC = ("kept", "default")


def make_race_parser(program: str, description: str, batch_sizes: list[int], rounds: int = 3
                     ) -> argparse.ArgumentParser:
    """A command line with the options of programs that compare systems."""
    parser = make_parser(program, description, rounds)
    add_threads(parser)
    parser.add_argument("--batch-size", type=int, nargs="+", default=batch_sizes, metavar="N",
                        help=f"rows of a batch; default {' '.join(map(str, batch_sizes))}")
    parser.add_argument("--lengths", nargs="+", choices=LENGTHS, default=list(LENGTHS),
                        help="histories of 1 + geometric behaviours, mean 9, or all of max_len; default both")
    parser.add_argument("--trim", choices=TRIM, default="own",
                        help="who gets batches padded to their longest history instead of max_len: the systems whose "
                             "own loaders do that (default), all that can take them, or none")
    parser.add_argument("--device", choices=["cpu", *["cuda"] * torch.cuda.is_available()], default="cpu",
                        help="where all is measured: cpu (default) or cuda, where there is a GPU")
    parser.add_argument("--malloc", choices=MALLOC, default=MALLOC[0],
                        help="kept: the C library keeps what is freed, as run_expid.py has it, for all systems "
                             "(default); or as it comes, for all")
    add_zoo(parser)
    return parser


def set_malloc(choice: str) -> None:
    """As `--malloc` says, in this process."""
    if choice == "kept":
        keep_freed_memory()


def add_zoo(parser: argparse.ArgumentParser) -> None:
    """`--zoo`."""
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="FuxiCTR checkout, for the zoo's own DIEN")


def padded_for(system: System, batch: dict[str, Tensor], trim: str) -> dict[str, Tensor]:
    """The batch as a system gets it, see `--trim`."""
    fits = {"own": system.trims, "all": system.trims or system.trimmable, "none": False}
    return trimmed(batch) if fits[trim] else batch


def race(found: Sequence[Entry], sizes: Sizes, batch: dict[str, Tensor], trim: str, threads: Sequence[int],
         rounds: int, train: bool) -> list[Row]:
    """Training steps or scoring of one batch, a row a system.

    Each is measured on every number of threads and reported with its best.
    """
    systems = [entry.build(sizes) for entry in found]
    tasks, widths = {}, []
    for i, system in enumerate(systems):
        system.model.train(train)
        padded = padded_for(system, batch, trim)
        widths.append(padded["item_history"].size(1))
        act: Callable[[Any], Any] = system.step if train else system.predict
        for number, task in by_threads(partial(act, system.prepare(padded)), threads).items():
            tasks[i, number] = task
    times = interleaved(tasks, rounds)
    rows: list[Row] = []
    for i, (entry, system) in enumerate(zip(found, systems, strict=True)):
        best, number = min((min(times[i, number]), number) for number in threads)
        rows.append({"system": entry.name, "work": entry.work.name, "weights": system.parameters,
                     "padded to": widths[i], "threads": number, "ms": 1000 * best,
                     "samples/s": len(batch["label"]) / best,
                     "seconds": {str(number): times[i, number] for number in threads}})  # fmt: skip
    return rows
