"""Why a candidate has its score: attention over the behaviours, and how the state of the second layer moves."""

from typing import Any

import numpy as np
import torch

from dien_fuxictr.dataset.encoding.reading import source_of
from dien_fuxictr.experiment.trace import principal_components
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.interest_sequence import Evolution
from model_zoo.DIEN.src.layers.packing import pack

from .bundle import Bundle
from .request import Inputs

MOST = 50
"""Candidates of one explanation."""


def explain(bundle: Bundle, inputs: Inputs, places: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """What a DIEN does with each sequence of behaviours; of another model, what it has read of them.

    Args:
        bundle: of the model.
        inputs: of one user and N candidates, at least one.
        places: of `RequestReader.places`.

    Returns:
        Of each sequence, with the T behaviours that the model has read, the oldest first: `fields`, those of a
        behaviour; `seen`, (T,) places in the request's lists; and of a DIEN `attention` (8), (N, T), None where
        gru_type: GRU has none; `movement`, (N, T), |h'_t - h'_{t-1}|; `path`, (N, T + 1, 2), h'_0 = 0 to h'_T in two
        principal components of all candidates together; `explained_variance`, (2,), of them.
    """
    model = bundle.model
    field_of = {column["name"]: source_of(column) for column in bundle.encoder.columns}
    is_dien = isinstance(model, DIEN)
    tables = [sequence.fields.behaviours for sequence in model.sequences] if is_dien else bundle.encoder.tables
    sequences = [
        {"fields": [field_of[name] for name in names], "seen": _seen(names[0], inputs, places)} for names in tables
    ]
    if is_dien:
        for sequence, evolution in zip(sequences, _evolutions(model, inputs), strict=True):
            sequence |= _moved(evolution, inputs.count)
    return sequences


def _seen(column: str, inputs: Inputs, places: dict[str, np.ndarray]) -> list[int]:
    (_, seen), _ = pack([torch.as_tensor(steps[column]) for steps in (inputs.user, places)])
    return seen.tolist()


@torch.inference_mode()
def _evolutions(model: DIEN, inputs: Inputs) -> list[Evolution]:
    user, candidates = (
        {name: torch.as_tensor(values).to(model.device) for name, values in part.items()}
        for part in (inputs.user, inputs.candidates)
    )
    rows = {name: values.expand(inputs.count, *values.shape[1:]) for name, values in user.items()} | candidates
    interests = model.extract(model.embed_behaviours(user))
    return model.trace(interests, model.embed_targets(model.embed_profile(rows)))


def _moved(evolution: Evolution, count: int) -> dict[str, Any]:
    states = evolution.states.view(count, -1, evolution.states.size(1))
    states = torch.nn.functional.pad(states, (0, 0, 1, 0)).cpu().numpy()
    points, shares = principal_components(states)
    attention = evolution.attention
    return {
        "attention": None if attention is None else attention.view(count, -1).cpu().numpy(),
        "movement": np.linalg.norm(np.diff(states, axis=1), axis=2),
        "path": points,
        "explained_variance": shares,
    }
