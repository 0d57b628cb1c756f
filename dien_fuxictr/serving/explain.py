"""Explain a candidate's score: attention, and the second layer's states."""

from typing import Any, cast

import numpy as np

from dien_fuxictr.dataset.encoding.reading import source_of
from dien_fuxictr.experiment.model_methods import ExplainingModel, describe_paths

from .bundle import Bundle
from .request import PADDING, Inputs

MOST = 50
"""Candidates of one explanation."""


def explain(bundle: Bundle, inputs: Inputs, places: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return what a model does with each sequence of behaviours.

    For a model without `explain`, return only what it has read.

    Args:
        bundle: bundle of the model.
        inputs: one user and N candidates, at least one.
        places: result of `RequestReader.places`.

    Returns:
        One dict per sequence, with the T behaviours that the model has read, the oldest first: `fields`, the fields of
        a behaviour; `seen`, (T,) places in the request's lists; and the result of `describe_paths`, one path per
        candidate.
    """
    field_of = {column["name"]: source_of(column) for column in bundle.encoder.columns}

    def shown(names: Any) -> dict[str, Any]:
        real = inputs.user[names[0]] != PADDING
        return {"fields": [field_of[name] for name in names], "seen": places[names[0]][real].tolist()}

    if not hasattr(bundle.model, "explain"):
        return [shown(names) for names in bundle.encoder.tables]
    model = cast(ExplainingModel, bundle.model)
    _, explained = model.explain(inputs.user, inputs.candidates, inputs.count)
    return [
        shown(behaviours) | describe_paths(sequence.get("attention"), sequence.get("states"))
        for (_, behaviours), sequence in zip(model.explained_fields, explained, strict=True)
    ]
