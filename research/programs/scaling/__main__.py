"""Compute and measure the cost of a training step on several processes.

paper     its time by a model of the communication, from 2 to 1,024 workers and from 10^4 to 10^9 items, for three ways
          to keep embedding tables equal: gradients of whole tables are summed (dense), each worker gets the rows that
          any of them touched (gathered), or each row has an owner (owned)
measured  steps of one process and of two workers here, which communicate by gloo, sums between them, and the costs per
          row of a table and per negative that the model uses
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.report import Row, make_parser, publish
from benchmarks.synthetic_batches import AMAZON, Sizes
from dien_fuxictr.common.errors import run_command

from .measured import piece_rows, step_rows, sum_rows
from .paper import MACHINES, Step, cost_rows

PARTS = ("paper", "measured")


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Compute, measure and print; return an exit code.

    Other `sizes` than the default are for tests.
    """
    parser = make_parser("research.programs.scaling", __doc__ or "", rounds=5)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to run; default both")
    parser.add_argument("--rows", type=int, default=1024, metavar="N", help="rows per process and batch; default 1024")
    options = parser.parse_args(arguments)
    if options.rows < 2:
        parser.error(f"--rows {options.rows} must be 2 or more, one for each process")
    return run_command(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    tables: dict[str, list[Row]] = {}
    notes = []
    if "paper" in options.parts:
        for machine in MACHINES:
            tables[f"On paper: {machine.name}"] = cost_rows(Step(rows=options.rows), machine)
            notes.append(
                f"{machine.name}: {machine.bandwidth / 1e9:g} GB/s, {machine.hop * 1e6:g} µs a turn of a collective, "
                f"{machine.memory / 2**30:g} GiB for tables, {machine.compute * 1e3:g} ms of computation a step, "
                f"{machine.update * 1e9:g} ns to update a row of all, {machine.touch * 1e9:g} a touched one, "
                f"{machine.draw * 1e9:g} to draw a negative"
            )
    if "measured" in options.parts:
        tables["Training steps, one thread a process"] = step_rows(sizes, options.rows, options.rounds)
        tables["Sums over two workers by gloo"] = sum_rows(options.rounds)
        tables["Rows and draws, one thread"] = piece_rows(options.rounds)
    publish("research.programs.scaling", tables, notes, options.json, None, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
