"""Compare all systems on one batch."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from .clock import Best, on_best_threads
from .entries import Entry
from .report import Row, add_threads, make_parser
from .runner import MALLOC, TRIM, Act, Conditions, MakeBatch, Runner, get_ready
from .synthetic_batches import LENGTHS, Sizes, make_batch, make_lengths
from .worker import Worker


def make_comparison_parser(
    program: str, description: str, batch_sizes: list[int], rounds: int = 3
) -> argparse.ArgumentParser:
    """Return a parser with the options of programs that compare systems."""
    parser = make_parser(program, description, rounds)
    add_threads(parser)
    parser.add_argument(
        "--batch-size",
        type=int,
        nargs="+",
        default=batch_sizes,
        metavar="N",
        help=f"rows per batch; default {' '.join(map(str, batch_sizes))}",
    )
    parser.add_argument(
        "--lengths",
        nargs="+",
        choices=LENGTHS,
        default=list(LENGTHS),
        help="histories of 1 + geometric behaviours, mean 9, or all of max_len; default both",
    )
    parser.add_argument(
        "--trim",
        choices=TRIM,
        default="own",
        help="systems whose batches are padded to the longest history instead of max_len: the systems whose "
        "own loaders do that (default), all that accept such batches, or none",
    )
    parser.add_argument(
        "--device",
        choices=["cpu", *["cuda"] * torch.cuda.is_available()],
        default="cpu",
        help="device of the measurements: cpu (default), or cuda if there is a GPU",
    )
    parser.add_argument(
        "--malloc",
        choices=MALLOC,
        default="own",
        help="own (default): the C library keeps freed memory for this project's systems, as in "
        "run_expid.py, and has its defaults for the peers, as in their trainers; kept: it keeps freed "
        "memory for all systems; default: it has its defaults for all systems",
    )
    add_zoo(parser)
    return parser


def add_zoo(parser: argparse.ArgumentParser) -> None:
    """Add `--zoo`."""
    parser.add_argument("--zoo", type=Path, metavar="DIR", help="FuxiCTR checkout, whose own DIEN is measured too")


def conditions_of(options: argparse.Namespace) -> Conditions:
    """Return the conditions in options of `make_comparison_parser`."""
    return Conditions(options.trim, options.malloc, options.threads, options.rounds)


def batches(options: argparse.Namespace, sizes: Sizes) -> Iterator[tuple[int, str, MakeBatch]]:
    """Yield rows, lengths and batch builder for options of `make_comparison_parser`."""
    for rows in options.batch_size:
        for kind in options.lengths:
            yield rows, kind, partial(make_batch, sizes, make_lengths(kind, rows, sizes.max_len))


def compare(found: Sequence[tuple[Entry, Act]], sizes: Sizes, make: MakeBatch, conditions: Conditions) -> list[Row]:
    """Return one row per system, with its best number of threads.

    Each system has its own process, and only one of them works at a time. Each is measured on every number of threads.

    Args:
        found: systems, and what they do.
        sizes: sizes of the data set and the model.
        make: builds the batch.
        conditions: conditions of the comparison.
    """
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(partial(get_ready, entry, sizes, make, conditions, act))) for entry, act in found
        ]
        times = on_best_threads(
            {number: partial(worker.ask, Runner.seconds) for number, worker in enumerate(workers)},
            conditions.threads,
            conditions.rounds,
        )
        return [
            worker.ask(_row, entry.name, entry.work.name, times[number])
            for number, (worker, (entry, _)) in enumerate(zip(workers, found, strict=True))
        ]


def _row(runner: Runner, name: str, work: str, best: Best) -> Row:
    return {
        "system": name,
        "work": work,
        "weights": runner.system.parameters,
        "padded to": runner.width,
        "threads": best.threads,
        "ms": 1000 * best.seconds,
        "samples/s": runner.rows / best.seconds,
        "seconds": best.every,
    }
