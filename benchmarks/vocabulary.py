"""Measure step time and peak memory of DIEN against the size of the vocabulary.

Tables are updated densely and sparsely. Each case is the experiment DIEN_amazon in its own process, for its peak
memory. The cases take turns, one step each, on batches as long as Amazon's, of items that are popular by Zipf's law.
"""

import argparse
import itertools
import math
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from fuxictr.pytorch.torch_utils import seed_everything
from torch import Tensor

from benchmarks.clock import seconds_of, take_turns
from benchmarks.memory import STATUS, resident_bytes
from benchmarks.report import Row, make_parser, publish
from benchmarks.synthetic_batches import Sizes, make_batch, make_feature_map, make_lengths, trimmed
from benchmarks.worker import Worker
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.device import keep_freed_memory
from dien_fuxictr.experiment.models import build_model, find_model
from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore

CONFIG = Path(__file__).parents[1] / "config"
UPDATES = ("dense", "sparse")
BATCHES = 8


class Case(NamedTuple):
    """Training of one process.

    It has the size of a vocabulary, `embedding_updates`, rows per batch, and whether items are equally popular.
    """

    items: int
    updates: str
    rows: int
    uniform: bool


class Training:
    """A case in its process."""

    def __init__(self, case: Case) -> None:
        params = load_config(CONFIG, "DIEN_amazon").params | {"gpu": -1, "batch_size": case.rows, "use_features": None}
        keep_freed_memory()
        torch.set_num_threads(params["num_threads"])
        seed_everything(params["seed"])
        sizes = Sizes(items=case.items, embedding=params["embedding_dim"])
        model = build_model(find_model(params["model"]), make_feature_map(sizes, negatives=False), params)
        if case.updates == "sparse":
            update_sparsely(WeightStore(model))
        self._trainer = Trainer(model)
        model.train()
        self._batches = [batch_of(sizes, case, seed) for seed in range(BATCHES)]
        self._next = itertools.cycle(self._batches)

    def seconds(self, calls: int) -> float:
        """Return the mean seconds of a training step."""
        return seconds_of(lambda: self._trainer.train_step(next(self._next)), calls)

    def peak_bytes(self) -> float:
        """Return the peak memory of the process in bytes; NaN without /proc."""
        return resident_bytes("VmHWM") if STATUS.is_file() else math.nan

    def item_rows(self) -> float:
        """Return the number of rows that a batch reads on average."""
        read = [len(torch.cat([batch["item_id"], batch["item_history"].flatten()]).unique()) for batch in self._batches]
        return sum(read) / len(read)


def batch_of(sizes: Sizes, case: Case, seed: int) -> dict[str, Tensor]:
    """Return a trimmed batch with Amazon's lengths and the items of the case."""
    batch = make_batch(sizes, make_lengths("amazon", case.rows, sizes.max_len, seed), seed)
    columns = {name: column for name, column in batch.items() if not name.startswith("neg_")}
    if not case.uniform:
        for name in ("item_id", "item_history"):
            columns[name] = popular(columns[name], sizes.items - 2)
    return trimmed(columns)


def popular(ids: Tensor, known: int) -> Tensor:
    """Map equally frequent ids from 1 to `known` to ids as frequent as 1 / id.

    Padding, 0, stays. The logarithm of a mapped id is nearly uniform, which needs no table of all ids that would count
    in the peak memory.
    """
    ranks = ((ids - 0.5) / known * math.log(known + 1)).double().exp().long().clamp(max=known)
    return torch.where(ids > 0, ranks, 0)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line; exit with code 2 on a wrong one."""
    parser = make_parser("benchmarks.vocabulary", __doc__ or "", rounds=5)
    parser.add_argument(
        "--items",
        type=int,
        nargs="+",
        default=[10**4, 10**6],
        metavar="N",
        help="sizes of the vocabulary; default 10000 1000000",
    )
    parser.add_argument(
        "--updates",
        nargs="+",
        choices=UPDATES,
        default=UPDATES,
        help="default both; all cases are in memory at once, where 10000000 items take about 5 GB "
        "dense and 3 GB sparse",
    )
    parser.add_argument("--rows", type=int, default=1024, metavar="B", help="rows per batch; default 1024")
    parser.add_argument("--uniform", action="store_true", help="make all items equally popular")
    options = parser.parse_args(arguments)
    if min(options.items) < 10 or options.rows < 2 or options.rounds < 1:
        parser.error("items must be 10 or more, rows 2 or more, rounds 1 or more")
    return options


def measure(cases: Sequence[Case], rounds: int) -> list[Row]:
    """Return one row per case; cases run in turn."""
    with ExitStack() as stack:
        workers = {case: stack.enter_context(Worker(partial(Training, case), fresh=True)) for case in cases}
        times = take_turns({case: partial(worker.ask, Training.seconds) for case, worker in workers.items()}, rounds)
        peaks = {case: worker.ask(Training.peak_bytes) for case, worker in workers.items()}
        read = {case: worker.ask(Training.item_rows) for case, worker in workers.items()}
    best = {case: min(times[case]) for case in cases}
    first = {case.updates: best[case] for case in reversed(cases)}
    return [
        {
            "items": case.items,
            "updates": case.updates,
            "step, ms": 1000 * best[case],
            "of the first": best[case] / first[case.updates],
            "peak memory, GB": peaks[case] / 1e9,
            "item rows a batch": read[case],
            "seconds": times[case],
        }
        for case in cases
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit code."""
    options = parse_arguments(arguments)
    return run_command(lambda: _run(options, arguments), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    cases = [
        Case(items, updates, options.rows, options.uniform) for items in options.items for updates in options.updates
    ]
    rows = measure(cases, options.rounds)
    items = "equally popular items" if options.uniform else "items by Zipf 1.0"
    notes = [
        f"DIEN_amazon on batches of {options.rows}, {items}; a step: the best of {options.rounds}, one thread",
        f"of the first: times that with {options.items[0]:,} items",
    ]
    publish("benchmarks.vocabulary", {"Training step by vocabulary": rows}, notes, options.json, arguments=arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
