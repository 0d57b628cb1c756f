"""Explanation of candidate scores: attention, and states of the second layer."""

from typing import Any

import numpy as np
import torch

from .candidate_scoring import Arrays


@torch.inference_mode()
def explain(model: Any, user: Arrays, candidates: Arrays, count: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the result of `DIEN.explain`.

    Args:
        model: a DIEN in evaluation mode.
        user: features of the user by name.
        candidates: features of the candidates by name, each (N,).
        count: N, at least 1.
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
    """Return attention (T,) and states (T, H) of the second layer without a target.

    Each of T behaviours has attention 1 / T, or 1 if attention is not normalised.
    """
    steps = len(interest.states)
    attention = interest.states.new_full((steps,), 1 / max(steps, 1) if sequence.attention.use_softmax else 1)
    states, _ = sequence.evolution(interest.states, interest.behaviours.packing, attention)
    return attention.cpu().numpy(), states.cpu().numpy()
