"""Measure whether simultaneous requests should be scored together, on a CPU.

The model has one thread.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor

from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.request import Inputs, Limits, RequestReader, scorer_of
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.interest_sequence import Behaviours, Interests
from model_zoo.DIEN.src.layers.packing import Packing

from ..clock import interleaved
from ..report import Row
from .bundles import Workshop

ALONE = "one by one, native"
TOGETHER = (2, 4, 8)


def batching_rows(workshop: Workshop, shapes: Sequence[tuple[int, int]], rounds: int) -> list[Row]:
    """Return one row per shape: ms of a request scored alone, and in a batch."""
    torch.set_num_threads(1)
    bundle = open_bundle(workshop.bundle("H_36"))
    read, native = RequestReader(bundle, Limits()).read, scorer_of(bundle.model)
    tasks: dict[tuple[tuple[int, int], int], Callable[[], object]] = {}
    for shape in shapes:
        rng = np.random.default_rng(0)
        inputs = [read(workshop.request(*shape, rng)) for _ in range(max(TOGETHER))]
        tasks[shape, 1] = partial(native, inputs[0])
        for count in TOGETHER:
            model, arguments = cast(DIEN, bundle.model), as_batch(inputs[:count])
            np.testing.assert_allclose(
                score_together(model, *arguments).numpy(),
                np.concatenate([native(each) for each in inputs[:count]]),
                atol=1e-5,
            )
            tasks[shape, count] = partial(score_together, model, *arguments)
    times = {key: 1000 * min(seconds) for key, seconds in interleaved(tasks, rounds).items()}
    return [
        {
            "behaviours x candidates": f"{shape[0]} x {shape[1]}",
            f"{ALONE}, ms": times[shape, 1],
            **{f"{count} together, ms each": times[shape, count] / count for count in TOGETHER},
        }
        for shape in shapes
    ]


def as_batch(inputs: Sequence[Inputs]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Return the users, their candidates, and the user of each candidate.

    All users have equal numbers of behaviours.
    """
    users, candidates = (
        {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in parts[0]}
        for parts in ([each.user for each in inputs], [each.candidates for each in inputs])
    )
    user_of = torch.arange(len(inputs)).repeat_interleave(torch.tensor([each.count for each in inputs]))
    scalars = {name: values[user_of] for name, values in users.items() if values.dim() == 1}
    return users, candidates | scalars, user_of


@torch.no_grad()
def score_together(model: DIEN, users: dict[str, Tensor], candidates: dict[str, Tensor], user_of: Tensor) -> Tensor:
    """Return scores of all users' candidates; extract each user's interests once."""
    profile = model.embed_profile(candidates)
    targets = model.embed_targets(profile)
    repeated = [_of_candidates(each, user_of) for each in model.extract(model.embed_behaviours(users))]
    logits = model.predict_logits(profile, targets, repeated, model.evolve(repeated, targets))
    return model.output_activation(logits).squeeze(1)


def _of_candidates(interests: Interests, user_of: Tensor) -> Interests:
    steps = len(interests.states) // len(interests.final)
    packing = Packing.of_lengths(torch.full((len(user_of),), steps))
    embedded, states = (
        each.view(len(interests.final), steps, -1)[user_of].flatten(0, 1)
        for each in (interests.behaviours.embedded, interests.states)
    )
    return Interests(Behaviours(embedded, packing), states, interests.final[user_of])
