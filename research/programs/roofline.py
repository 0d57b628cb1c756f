"""Measure a training step relative to the machine's rate of matrix products.

This is done for every backend of the recurrence. The rate is that of a product of two 2048 x 2048 float32 matrices by
torch, measured in turn with the steps. The work of a step is counted by one formula (research/programs/flops.py: 273
kFLOP per real behaviour with the auxiliary network, 222 kFLOP per row), the least that the equations need; further work
of a backend does not count.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from benchmarks.clock import interleaved
from benchmarks.entries import add_backends, build_own
from benchmarks.report import Row, make_parser, publish
from benchmarks.synthetic_batches import AMAZON, LENGTHS, Sizes, make_batch, make_lengths, trimmed
from benchmarks.systems import NET
from dien_fuxictr.experiment.device import keep_freed_memory

from .flops import step_flops

SQUARE = 2048


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON, square: int = SQUARE) -> None:
    """Measure and print; other `sizes` and `square` than the defaults are for tests."""
    parser = make_parser("research.programs.roofline", __doc__ or "", rounds=5)
    parser.add_argument("--batch-size", type=int, default=1024, metavar="N", help="rows per batch; default 1024")
    parser.add_argument(
        "--threads",
        type=int,
        default=torch.get_num_threads(),
        metavar="N",
        help="number of torch's threads; default all",
    )
    notes = add_backends(parser)
    options = parser.parse_args(arguments)
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    tables = {
        f"Training step, B = {options.batch_size}, lengths {kind}, {options.threads} threads": roofline(
            options.backends, kind, options.batch_size, sizes, square, options.rounds
        )
        for kind in LENGTHS
    }
    publish("research.programs.roofline", tables, notes, options.json, arguments=arguments)


def roofline(backends: Sequence[str], kind: str, rows: int, sizes: Sizes, square: int, rounds: int) -> list[Row]:
    """Return the row of the matrix product, then one row per backend."""
    lengths = make_lengths(kind, rows, sizes.max_len)
    batch = trimmed(make_batch(sizes, lengths))
    a, b = torch.rand(square, square), torch.rand(square, square)
    product = f"SGEMM {square}³"
    tasks: dict[str, Callable[[], Any]] = {product: partial(torch.mm, a, b)}
    flops = {product: 2 * square**3}
    for backend in backends:
        system = build_own(sizes, NET, backend)
        system.model.train()
        tasks[backend] = partial(system.step, system.prepare(batch))
        flops[backend] = step_flops(sizes, int(lengths.sum()), rows)
    times = interleaved(tasks, rounds)
    rate = {name: flops[name] / min(seconds) for name, seconds in times.items()}
    return [
        {
            "": name,
            "GFLOP": flops[name] / 1e9,
            "ms": 1000 * min(seconds),
            "GFLOP/s": rate[name] / 1e9,
            "share": f"{rate[name] / rate[product]:.1%}",
            "seconds": seconds,
        }
        for name, seconds in times.items()
    ]


if __name__ == "__main__":
    main()
