"""What the second layer does over one user's behaviours, for each candidate and without any."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.attention import InterestAttention


@dataclass(frozen=True)
class Trace:
    """T behaviours of one user, the oldest first, and P candidates.

    Attributes:
        attention: (P + 1, T); the last row is that without a target, the same for all behaviours.
        states: (P + 1, T + 1, H) of the second layer, from the zeros before the first behaviour on.
        predictions: (P,) the model's.
    """

    attention: np.ndarray
    states: np.ndarray
    predictions: np.ndarray


@torch.no_grad()
def trace(model: DIEN, batch: dict[str, Tensor], candidates: list[tuple[float, ...]]) -> Trace:
    """Trace the first of the model's sequences.

    All but the target is the row's for every candidate. Without a target each of T behaviours has attention 1/T, or 1
    where attention is not normalised.

    Args:
        model: in evaluation mode, with attention.
        batch: one row, with behaviours.
        candidates: ids of the target's fields.
    """
    X = model.get_inputs(batch)
    interests = model.extract(model.embed_behaviours(X))
    first, sequence = interests[0], model.sequences[0]
    steps = len(first.states)
    rows = {name: values.expand(len(candidates), *values.shape[1:]) for name, values in X.items()}
    for name, ids in zip(sequence.fields.target, zip(*candidates, strict=True), strict=True):
        rows[name] = torch.tensor(ids, dtype=X[name].dtype, device=X[name].device)
    profile = model.embed_profile(rows)
    targets = model.embed_targets(profile)
    evolutions = model.trace(interests, targets)
    logits = model.predict_logits(profile, targets, interests, [evolution.final for evolution in evolutions])

    normalised = cast(InterestAttention, sequence.attention).use_softmax
    equal = first.states.new_full((steps,), 1 / steps if normalised else 1)
    untargeted, _ = sequence.evolution(first.states, first.behaviours.packing, equal)
    states = torch.cat([evolutions[0].states, untargeted]).view(-1, steps, untargeted.size(1))
    attention = torch.cat([cast(Tensor, evolutions[0].attention), equal]).view(-1, steps)
    return Trace(
        attention=attention.cpu().numpy(),
        states=torch.nn.functional.pad(states, (0, 0, 1, 0)).cpu().numpy(),
        predictions=cast(Tensor, model.output_activation(logits)).flatten().cpu().numpy(),
    )


def principal_components(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PCA to two dimensions, of all paths together.

    Args:
        states: (P, S, H).

    Returns:
        Coordinates (P, S, 2), and the shares (2,) of the variance that they explain. Of an axis and its opposite that
        counts whose largest weight is positive.
    """
    flat = states.reshape(-1, states.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(axis=0)
    _, sizes, weights = np.linalg.svd(centred, full_matrices=False)
    axes, variances = np.zeros((2, flat.shape[1])), np.zeros(2)  # H may be 1
    axes[: len(weights)], variances[: len(weights)] = weights[:2], sizes[:2] ** 2
    axes *= np.where(np.take_along_axis(axes, abs(axes).argmax(axis=1)[:, None], axis=1) < 0, -1, 1)
    total = (sizes**2).sum()
    return (centred @ axes.T).reshape(*states.shape[:2], 2), variances / total if total else variances
