"""Measure scoring without gradients, in samples per second.

Systems, sizes and batches are those of `benchmarks.train_step`. The second kind of table is one user with many
candidates: this project computes the user's interests once and evolves them towards each candidate; `expanded` rows
are for a batch that repeats the history. The last tables compare this project's DIEN with the others. No system
computes an auxiliary loss except torch-rechub's, which always does.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from dien_fuxictr.common.errors import run_command
from model_zoo.DIEN.src import DIEN

from .compare_systems import batches, compare, conditions_of, make_comparison_parser
from .entries import OURS, Entry, entries
from .ratios import beside_peers
from .report import Row, publish
from .runner import Act, Conditions, MakeBatch, scoring
from .synthetic_batches import AMAZON, HISTORIES, MEAN_LENGTH, SEQUENCES, Sizes, make_batch
from .systems import INNER_PRODUCT, NO_AUX, System

PEERS = (NO_AUX, INNER_PRODUCT)


def main(arguments: Sequence[str] | None = None, sizes: Sizes = AMAZON) -> int:
    """Measure and print; returns an exit code, 2 for a checkout that is none.

    `sizes` other than the default are for trying out.
    """
    parser = make_comparison_parser("benchmarks.inference", __doc__ or "", batch_sizes=[1024])
    parser.add_argument("--candidates", type=int, default=1000, metavar="N", help="candidates per user; default 1000")
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options, arguments, sizes), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None, sizes: Sizes) -> int:
    found, notes = entries(options.zoo, options.device, PEERS)
    found = [entry for entry in found if "Adam" not in entry.name]  # the optimizer does not change the scores
    conditions = conditions_of(options)
    tables: dict[str, list[Row]] = {}
    beside: list[Row] = []
    candidates: list[Row] = []
    for rows, kind, make in batches(options, sizes):
        measured = tables[f"Scoring, B = {rows}, lengths {kind}"] = compare(
            [(entry, scoring) for entry in found], sizes, make, conditions
        )
        beside += [{"B": rows, "lengths": kind, **row} for row in beside_peers(measured, "samples/s", NO_AUX, PEERS)]
    lengths = {"amazon": min(MEAN_LENGTH, sizes.max_len), "full": sizes.max_len}
    for length in (lengths[kind] for kind in options.lengths):
        measured = tables[f"1 user x {options.candidates} candidates, {length} behaviours"] = candidate_rows(
            found, sizes, partial(one_user, sizes, length, options.candidates), conditions
        )
        candidates += [{"behaviours": length, **row} for row in beside_peers(measured, "samples/s", NO_AUX, PEERS)]
    tables |= {
        "Scoring: samples/s as multiples of a peer's": beside,
        "Candidates: samples/s as multiples of an expanded batch's": candidates,
    }
    publish("benchmarks.inference", tables, notes, options.json, options.zoo, arguments)
    return 0


def one_user(sizes: Sizes, length: int, candidates: int) -> dict[str, Tensor]:
    """Return a batch of candidates for one history."""
    batch = make_batch(sizes, torch.full((candidates,), length).numpy())
    return {name: x[:1].expand_as(x).contiguous() if name in SEQUENCES else x for name, x in batch.items()}


@torch.no_grad()
def score_candidates(model: DIEN, user: dict[str, Tensor], candidates: dict[str, Tensor]) -> Tensor:
    """Return scores (N,) of N candidates for a user; extract the interests once."""
    profile = model.embed_profile(candidates)
    targets = model.embed_targets(profile)
    interests = model.extract(model.embed_behaviours(user))
    logits = model.predict_logits(profile, targets, interests, model.evolve_candidates(interests, targets))
    return model.output_activation(logits).squeeze(1)


def from_interests(system: System, batch: dict[str, Tensor]) -> Callable[[], Tensor]:
    """Return the scores of this project's DIEN for candidates of the batch's user."""
    system.model.eval()
    user = {name: batch[name][:1] for name in HISTORIES}
    return partial(score_candidates, cast(DIEN, system.model), user, batch)


def candidate_rows(found: Sequence[Entry], sizes: Sizes, make: MakeBatch, conditions: Conditions) -> list[Row]:
    """Return one row per own system, and one per system on the expanded batch."""
    racing: list[tuple[Entry, Act]] = []
    for entry in found:
        if entry.name.startswith(OURS):
            racing.append((entry, from_interests))
        racing.append((entry._replace(name=f"expanded, {entry.name}"), scoring))
    return [
        {name: value for name, value in row.items() if name not in ("weights", "padded to")}
        for row in compare(racing, sizes, make, conditions)
    ]


if __name__ == "__main__":
    sys.exit(main())
