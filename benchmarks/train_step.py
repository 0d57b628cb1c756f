"""Measure whole training steps, in samples per second, of DIEN implementations.

This project's DIEN and others run on equal batches and sizes. A step is forward, loss, backward, clipping and
optimizer; building the batch is not timed. All have embeddings of 18 + 18, hidden states of 36, AUGRU, an MLP of
200-80 with batch normalisation, Adam, histories up to 100, 63,001 items and 801 categories. `work` is what they compute
besides, `weights` counts those outside of embedding tables. The tables of ratios compare this project's DIEN with each
other one: with the auxiliary network if the other has an auxiliary loss, else without. Other projects: pip install -r
requirements-bench.txt, and --zoo. With --expid the settings, the batch size and the sizes are those of an experiment.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dien_fuxictr.common.errors import run_command

from .compare_systems import batches, compare, conditions_of, make_comparison_parser
from .entries import entries
from .epoch import add_experiment
from .experiments import read_step
from .memory import STATUS, memory_rows
from .ratios import beside_peers
from .report import Row, publish
from .runner import training
from .synthetic_batches import AMAZON, Sizes
from .systems import INNER_PRODUCT, NET, NO_AUX


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` other than the default are for trying out.
    """
    parser = make_comparison_parser("benchmarks.train_step", __doc__ or "", batch_sizes=[128])
    parser.add_argument(
        "--memory", type=int, metavar="N", help="also measure the peak memory of a step with N full histories"
    )
    add_experiment(parser, default=None)
    options = parser.parse_args(arguments)
    if options.expid:
        return run_command(lambda: _run_experiment(options, arguments), "interrupted")
    if options.memory and (options.device != "cpu" or not STATUS.is_file()):
        parser.error("--memory needs --device cpu and Linux's /proc")
    return run_command(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    found, notes = entries(options.zoo, options.device)
    conditions = conditions_of(options)
    tables: dict[str, list[Row]] = {}
    ratios: list[Row] = []
    for rows, kind, make in batches(options, sizes):
        measured = tables[f"Training step, B = {rows}, lengths {kind}"] = compare(
            [(entry, training) for entry in found], sizes, make, conditions
        )
        ratios += beside_all(measured, {"B": rows, "lengths": kind}, "samples/s")
    tables["Samples/s as multiples of a peer's"] = ratios
    if options.memory:
        measured = tables[f"Peak memory of a training step (VmHWM), B = {options.memory}, lengths full"] = memory_rows(
            found, sizes, options.memory, conditions
        )
        tables["Peak memory as a multiple of a peer's"] = beside_all(measured, {}, "peak MiB", best_first=False)
    publish("benchmarks.train_step", tables, notes, options.json, options.zoo, arguments)
    return 0


def _run_experiment(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    step = read_step(options.expid, options.config, dict(options.settings))
    found, notes = step.entries(options.zoo)
    every = [(entry, training) for entry in found]
    measured = compare(every, step.sizes, step.batch, conditions_of(options))
    without = f"{step.expid}, {NO_AUX.name}" if step.has_auxiliary else step.expid
    ratios = [
        {"auxiliary loss": name, **row}
        for name, work, peers in (("on", step.expid, (NET, INNER_PRODUCT)), ("off", without, (NO_AUX,)))
        for row in beside_peers(measured, "samples/s", replace(NET, name=work), peers)
    ]
    tables = {
        f"Training step of {step.expid}, B = {step.params['batch_size']}": measured,
        "Samples/s as multiples of a peer's": ratios,
    }
    publish("benchmarks.train_step", tables, notes, options.json, options.zoo, arguments)
    return 0


def beside_all(rows: Sequence[Row], labels: dict[str, Any], value: str, best_first: bool = True) -> list[Row]:
    """Return rows of `beside_peers` with the auxiliary loss, then without.

    Each row begins with the labels.
    """
    pairs = (("on", NET, (NET, INNER_PRODUCT)), ("off", NO_AUX, (NO_AUX,)))
    return [
        {**labels, "auxiliary loss": name, **row}
        for name, work, peers in pairs
        for row in beside_peers(rows, value, work, peers, best_first)
    ]


if __name__ == "__main__":
    sys.exit(main())
