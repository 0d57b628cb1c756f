"""Scores of one user's candidates."""

from collections.abc import Callable

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from model_zoo.DIEN.src import DIEN

from .request import Inputs

Scorer = Callable[[Inputs], np.ndarray]


def scorer_of(model: BaseModel) -> Scorer:
    """What scores N candidates, (N,) float32: the model's forward pass on N rows; of a DIEN the same with the user's
    interests extracted once.

    Args:
        model: in evaluation mode.
    """

    @torch.inference_mode()
    def score(inputs: Inputs) -> np.ndarray:
        if not inputs.count:
            return np.zeros(0, np.float32)
        user, candidates = (
            {name: values.to(model.device) for name, values in part.items()}
            for part in (inputs.user, inputs.candidates)
        )
        of = _of_dien if isinstance(model, DIEN) else _of_any
        return of(model, user, candidates, inputs.count).reshape(-1).cpu().numpy()  # pyright: ignore[reportArgumentType]

    return score


def _of_any(model: BaseModel, user: dict[str, Tensor], candidates: dict[str, Tensor], count: int) -> Tensor:
    repeated = {name: values.expand(count, *values.shape[1:]) for name, values in user.items()}
    return model.forward({**repeated, **candidates})["y_pred"]


def _of_dien(model: DIEN, user: dict[str, Tensor], candidates: dict[str, Tensor], count: int) -> Tensor:
    """The user's features are looked up once, and interests (2)-(5) extracted once; they evolve, (8)-(12), towards
    each candidate."""
    fields = set(model.profile_fields)
    profile = model.embedding_layer({name: values for name, values in candidates.items() if name in fields})
    own = model.embedding_layer({name: values for name, values in user.items() if name in fields})
    profile |= {name: embedded.expand(count, -1) for name, embedded in own.items()}
    targets = model.embed_targets(profile)
    interests = model.extract(model.embed_behaviours(user))
    evolved = model.evolve_candidates(interests, targets)
    return model.output_activation(model.predict_logits(profile, targets, interests, evolved))
