"""Where the scores of one user's candidates come from: attention, and the states of the second layer."""

from typing import Any

import numpy as np
import torch

from .candidate_scoring import Arrays


@torch.inference_mode()
def explain(model: Any, user: Arrays, candidates: Arrays, count: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return what `DIEN.explain` is to return.

    Args:
        model: a DIEN in evaluation mode.
    """
    of_user, of_candidates = (
        {name: torch.as_tensor(values).to(model.device) for name, values in part.items()} for part in (user, candidates)
    )
    rows = {name: values.expand(count, *values.shape[1:]) for name, values in of_user.items()} | of_candidates
    profile = model.embed_profile(rows)
    targets = model.embed_targets(profile)
    interests = model.extract(model.embed_behaviours(of_user))
    evolutions = model.trace(interests, targets)
    logits = model.predict_logits(profile, targets, interests, [evolution.final for evolution in evolutions])
    explained = []
    for sequence, interest, evolution in zip(model.sequences, interests, evolutions, strict=True):
        states = evolution.states.view(count, -1, evolution.states.size(1)).cpu().numpy()
        of_sequence: dict[str, Any] = {"attention": None, "states": states}
        if evolution.attention is not None:
            of_sequence["attention"] = evolution.attention.view(count, -1).cpu().numpy()
            of_sequence["untargeted"] = _untargeted(sequence, interest)
        explained.append(of_sequence)
    return model.output_activation(logits).squeeze(1).cpu().numpy(), explained


def _untargeted(sequence: Any, interest: Any) -> tuple[np.ndarray, np.ndarray]:
    """Without a target each of T behaviours has attention 1 / T, or 1 where attention is not normalised."""
    steps = len(interest.states)
    attention = interest.states.new_full((steps,), 1 / max(steps, 1) if sequence.attention.use_softmax else 1)
    states, _ = sequence.evolution(interest.states, interest.behaviours.packing, attention)
    return attention.cpu().numpy(), states.cpu().numpy()
