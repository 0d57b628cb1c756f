"""Scoring without gradients, in samples per second, on the systems, sizes and batches of `benchmarks.train_step`.

The second kind of table is one user before many candidates: this project computes the user's interests once and
evolves them towards each candidate; `expanded` rows are of a batch that repeats the history. The last tables set this
project's DIEN beside the others. No system computes an auxiliary loss but torch-rechub's, which always does.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from experiment.errors import exit_code
from model_zoo.DIEN.src import DIEN

from .clock import by_threads, interleaved
from .entries import Entry, entries
from .made import AMAZON, HISTORIES, MEAN_LENGTH, SEQUENCES, Sizes, make_batch, make_lengths
from .race import make_race_parser, padded_for, race, set_malloc
from .ratios import beside_peers
from .report import Row, publish
from .systems import INNER_PRODUCT, NET, NO_AUX

PEERS = (NO_AUX, INNER_PRODUCT)


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` other than the default are for trying out.
    """
    parser = make_race_parser("inference", __doc__ or "", batch_sizes=[1024])
    parser.add_argument("--candidates", type=int, default=1000, metavar="N", help="of one user; default 1000")
    options = parser.parse_args(arguments)
    return exit_code(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    set_malloc(options.malloc)
    every, notes = entries(options.zoo, options.device)
    found = [entry for entry in every if entry.work != NET]
    tables: dict[str, list[Row]] = {}
    scoring: list[Row] = []
    candidates: list[Row] = []
    for rows in options.batch_size:
        for kind in options.lengths:
            batch = make_batch(sizes, make_lengths(kind, rows, sizes.max_len))
            measured = tables[f"Scoring, B = {rows}, lengths {kind}"] = race(
                found, sizes, batch, options.trim, options.threads, options.rounds, train=False)
            scoring += [{"B": rows, "lengths": kind, **row}
                        for row in beside_peers(measured, "samples/s", NO_AUX, PEERS)]
    lengths = {"amazon": min(MEAN_LENGTH, sizes.max_len), "full": sizes.max_len}
    for length in (lengths[kind] for kind in options.lengths):
        measured = tables[f"1 user x {options.candidates} candidates, {length} behaviours"] = candidate_rows(
            found, sizes, one_user(sizes, length, options.candidates), options.trim, options.threads, options.rounds)
        candidates += [{"behaviours": length, **row} for row in beside_peers(measured, "samples/s", NO_AUX, PEERS)]
    tables |= {"Scoring: samples/s as multiples of a peer's": scoring,
               "Candidates: samples/s as multiples of an expanded batch's": candidates}
    publish("inference", tables, notes, options.json, options.zoo, arguments)
    return 0


def one_user(sizes: Sizes, length: int, candidates: int) -> dict[str, Tensor]:
    """A batch of candidates for one history."""
    batch = make_batch(sizes, torch.full((candidates,), length).numpy())
    return {name: x[:1].expand_as(x).contiguous() if name in SEQUENCES else x for name, x in batch.items()}


@torch.no_grad()
def score_candidates(model: DIEN, user: dict[str, Tensor], candidates: dict[str, Tensor]) -> Tensor:
    """Scores (N,) of N candidates for one user, whose interests are extracted once."""
    profile = model.embed_profile(candidates)
    targets = model.embed_targets(profile)
    interests = model.extract(user)
    logits = model.predict_logits(profile, targets, interests, model.evolve(interests, targets))
    return model.output_activation(logits).squeeze(1)


def candidate_rows(found: Sequence[Entry], sizes: Sizes, batch: dict[str, Tensor], trim: str, threads: Sequence[int],
                   rounds: int) -> list[Row]:
    """A row for each of this project's systems, and one for every system on the expanded batch."""
    tasks: dict[tuple[str, str], Callable[[], Tensor]] = {}
    for entry in found:
        system = entry.build(sizes)
        system.model.eval()
        prepared = system.prepare(padded_for(system, batch, trim))
        if isinstance(system.model, DIEN):
            user = {name: prepared[name][:1] for name in HISTORIES}
            tasks[entry.name, entry.work.name] = partial(score_candidates, system.model, user, prepared)
        tasks[f"expanded, {entry.name}", entry.work.name] = partial(system.predict, prepared)
    times = interleaved({(label, number): on_threads for label, task in tasks.items()
                         for number, on_threads in by_threads(task, threads).items()}, rounds)  # fmt: skip
    rows: list[Row] = []
    for name, work in tasks:
        best, number = min((min(times[(name, work), number]), number) for number in threads)
        rows.append({"system": name, "work": work, "threads": number, "ms": 1000 * best,
                     "samples/s": len(batch["label"]) / best,
                     "seconds": {str(number): times[(name, work), number] for number in threads}})  # fmt: skip
    return rows


if __name__ == "__main__":
    sys.exit(main())
