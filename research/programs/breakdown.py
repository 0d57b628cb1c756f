"""Measure the time of a training step part by part, forward and backward.

This project's DIEN is compared with others. Each part has the share that torch's profiler gives it, of the step's time
without the profiler. A profiler makes small operations slower, so that loops over time appear slightly longer than they
are. Other projects: as for `benchmarks.train_step`.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.clock import on_best_threads
from benchmarks.compare_systems import batches, conditions_of, make_comparison_parser
from benchmarks.entries import Entry, entries
from benchmarks.report import Row, publish
from benchmarks.runner import Conditions, MakeBatch, Runner, get_ready, training
from benchmarks.synthetic_batches import AMAZON, Sizes
from benchmarks.systems import NET, NO_AUX
from benchmarks.worker import Worker
from dien_fuxictr.common.errors import run_command

PARTS = {
    "embeddings": ("embedding_layer", "embedding_dict"),
    "first GRU": ("sequences.0.extractor", "extraction_modules", "interest_extractor.gru"),
    "attention unit": ("sequences.0.attention", "attention_modules", "interest_evolution.attention"),
    "evolution GRU": ("sequences.0.evolution", "evolving_modules", "interest_evolution.interest_evolution"),
    "auxiliary net": ("sequences.0.auxiliary_loss", "interest_extractor.auxiliary_net"),
    "MLP": ("dnn",),
}
"""Part -> modules of this project's, the zoo's and deepctr-torch's DIEN."""
FUNCTIONS = {"_Lookup": "embeddings"}
"""Functions of autograd -> part; they are called by no module."""
UPDATE, REST = "clipping, optimizer", "packing, loss, rest"
COLUMNS = (*PARTS, UPDATE, REST)
BACKWARD = "autograd::engine::evaluate_function"


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` other than the default are for trying out.
    """
    parser = make_comparison_parser("research.programs.breakdown", __doc__ or "", batch_sizes=[128], rounds=2)
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    found, notes = entries(options.zoo, options.device, (NET, NO_AUX))
    conditions = conditions_of(options)
    tables = {
        f"ms of a training step, B = {rows}, lengths {kind}": [
            breakdown(entry, sizes, make, conditions) for entry in found
        ]
        for rows, kind, make in batches(options, sizes)
    }
    publish("research.programs.breakdown", tables, notes, options.json, options.zoo, arguments)
    return 0


def breakdown(entry: Entry, sizes: Sizes, make: MakeBatch, conditions: Conditions) -> Row:
    """Return the row of a system, in ms, on its best number of threads.

    The system has its own process.
    """
    with Worker(partial(get_ready, entry, sizes, make, conditions, training)) as worker:
        timers = {entry.name: partial(worker.ask, Runner.seconds)}
        best = on_best_threads(timers, conditions.threads, conditions.rounds)[entry.name]
        parts = worker.ask(shares, best.threads, conditions.rounds)
    return {
        "system": entry.name,
        "work": entry.work.name,
        "threads": best.threads,
        "all": 1000 * best.seconds,
        **{name: 1000 * best.seconds * parts[name] for name in COLUMNS},
        "seconds": best.every,
    }


def shares(runner: Runner, threads: int, steps: int) -> dict[str, float]:
    """Return part -> its share of a number of training steps; shares sum up to 1."""
    system, batch = runner.system, runner.batch
    torch.set_num_threads(threads)
    with marked(system.model), profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            with record_function(REST):
                system.optimizer.zero_grad()
                system.loss(batch).backward()
                with record_function(UPDATE):
                    system.update()
    time = self_times(profiler.events() or [])
    return {name: time[name] / sum(time.values()) for name in COLUMNS}


@contextmanager
def marked(model: nn.Module) -> Iterator[None]:
    """Record calls of the model's parts in the profile, under the parts' names."""
    modules = dict(model.named_modules())
    hooks, ranges = [], []

    def begin(part: str, *_: Any) -> None:
        ranges.append(record_function(part))
        ranges[-1].__enter__()

    def end(*_: Any) -> None:
        ranges.pop().__exit__(None, None, None)

    for part, names in PARTS.items():
        for module in (modules[name] for name in names if name in modules):
            for called in module.children() if isinstance(module, (nn.ModuleList, nn.ModuleDict)) else [module]:
                hooks += [called.register_forward_pre_hook(partial(begin, part)), called.register_forward_hook(end)]
    yield
    for hook in hooks:
        hook.remove()


def self_times(events: Sequence[FunctionEvent]) -> dict[str, float]:
    """Return part -> µs: each event's own time in the part that called it.

    An event of a backward pass belongs to the part of its forward pass. The operation that creates a node of the graph
    is the last one with its sequence number, which the node's backward pass also has.
    """
    time: dict[str, float] = defaultdict(float)
    part_of: dict[int, str] = {}

    def walk(event: FunctionEvent, part: str) -> None:
        if event.name in COLUMNS:
            part = event.name
        elif event.name.startswith(BACKWARD):
            part = part_of.get(event.sequence_nr, REST)
        elif event.sequence_nr >= 0:
            part = part_of[event.sequence_nr] = FUNCTIONS.get(event.name, part)
        time[part] += event.self_cpu_time_total
        for child in sorted(event.cpu_children, key=lambda child: child.time_range.start):
            walk(child, part)

    for event in events:
        if event.name == REST:
            walk(event, REST)
    return time


if __name__ == "__main__":
    sys.exit(main())
