"""Measure whether the cost of a training step depends on real behaviours only.

Histories are padded differently, or longer. Each step is compared with one on histories of 1 + geometric behaviours,
mean 9, padded to the longest of the batch, as the loader does for any max_len. The last table has equal histories in
data sets of different max_len, for this project's DIEN and others, each with the padding of its own loader. Other
projects: as for `benchmarks.train_step`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from torch import Tensor

from benchmarks.clock import on_best_threads, seconds_on
from benchmarks.compare_systems import add_zoo, compare
from benchmarks.entries import Entry, add_backends, build_own, entries
from benchmarks.report import Row, add_threads, make_parser, publish
from benchmarks.runner import Conditions, training
from benchmarks.synthetic_batches import AMAZON, Sizes, make_batch, make_lengths, trimmed
from benchmarks.systems import NET, NO_AUX
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.experiment.device import keep_freed_memory

FACTOR = 10
MAX_LENS = (1, 3, 10)
"""Multiples of the usual one."""
BASE = "Amazon-like"


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` other than the default are for trying out.
    """
    parser = make_parser("research.programs.lengths", __doc__ or "", rounds=2)
    add_threads(parser)
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="rows per batch; default 64")
    add_zoo(parser)
    add_backends(parser)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    return run_command(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    tables = {
        f"Training step, B = {options.batch_size}, backend {backend}": length_rows(
            backend, sizes, options.batch_size, options.threads, options.rounds
        )
        for backend in options.backends
    }
    every, notes = entries(options.zoo)
    others = [entry for entry in every if entry.work != NO_AUX or "zoo" in entry.name]
    tables[f"Training step, B = {options.batch_size}, by max_len"] = max_len_rows(
        others, sizes, options.batch_size, options.threads, options.rounds
    )
    publish("research.programs.lengths", tables, notes, options.json, options.zoo, arguments)
    return 0


def cases(sizes: Sizes, rows: int) -> dict[str, dict[str, Tensor]]:
    """Name -> batch."""
    lengths = make_lengths("amazon", rows, sizes.max_len)
    long = FACTOR * sizes.max_len
    one_long = np.concatenate([lengths[1:], [long]])
    half = np.full(rows, sizes.max_len // 2)

    def batch(lengths: np.ndarray, max_len: int) -> dict[str, Tensor]:
        return make_batch(replace(sizes, max_len=max_len), lengths)

    return {
        BASE: trimmed(batch(lengths, sizes.max_len)),
        f"the same, padded to {sizes.max_len}": batch(lengths, sizes.max_len),
        f"the same, padded to {long}": batch(lengths, long),
        "all twice as long": trimmed(batch(2 * lengths, 2 * sizes.max_len)),
        f"one of {long} among them": trimmed(batch(one_long, long)),
        f"all of {half[0]}": trimmed(batch(half, sizes.max_len)),
        f"all of {2 * half[0]}": trimmed(batch(2 * half, sizes.max_len)),
    }


def length_rows(backend: str, sizes: Sizes, rows: int, threads: Sequence[int], rounds: int) -> list[Row]:
    """Return one row per case, with behaviours and time relative to the first case."""
    system = build_own(sizes, NET, backend)
    batches = cases(sizes, rows)
    best = on_best_threads(
        {name: partial(seconds_on, training(system, system.prepare(batch))) for name, batch in batches.items()},
        threads,
        rounds,
    )
    behaviours = {name: int((batch["item_history"] > 0).sum()) for name, batch in batches.items()}
    return [
        {
            "histories": name,
            "behaviours": behaviours[name],
            "padded to": batch["item_history"].size(1),
            "ms": 1000 * best[name].seconds,
            "behaviours / first": behaviours[name] / behaviours[BASE],
            "time / first": best[name].seconds / best[BASE].seconds,
            "seconds": best[name].every,
        }
        for name, batch in batches.items()
    ]


def max_len_rows(found: Sequence[Entry], sizes: Sizes, rows: int, threads: Sequence[int], rounds: int) -> list[Row]:
    """Return one row per system and max_len, with time relative to the first."""
    lengths = make_lengths("amazon", rows, sizes.max_len)
    conditions = Conditions("own", "own", threads, rounds)
    raced: list[Row] = []
    for factor in MAX_LENS:
        longer = replace(sizes, max_len=factor * sizes.max_len)
        raced += [
            {"max_len": longer.max_len, **row}
            for row in compare(
                [(entry, training) for entry in found], longer, partial(make_batch, longer, lengths), conditions
            )
        ]
    by_system = [raced[start :: len(found)] for start in range(len(found))]
    return [{**row, "time / first": row["ms"] / of_one[0]["ms"]} for of_one in by_system for row in of_one]


if __name__ == "__main__":
    sys.exit(main())
