"""Scores of one user's candidates."""

from collections.abc import Callable

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel

from model_zoo.DIEN.src import DIEN

from .request import Inputs

Scorer = Callable[[Inputs], np.ndarray]


def scorer_of(model: BaseModel) -> Scorer:
    """What scores N candidates, (N,) float32: a DIEN's own scorer; the forward pass of any other model on N rows.

    Args:
        model: in evaluation mode.
    """
    if isinstance(model, DIEN):
        score = model.scorer()
        return lambda inputs: score(inputs.user, inputs.candidates, inputs.count)
    return lambda inputs: _of_any(model, inputs)


@torch.inference_mode()
def _of_any(model: BaseModel, inputs: Inputs) -> np.ndarray:
    if not inputs.count:
        return np.zeros(0, np.float32)
    user, candidates = (
        {name: torch.from_numpy(values).to(model.device) for name, values in part.items()}
        for part in (inputs.user, inputs.candidates)
    )
    repeated = {name: values.expand(inputs.count, *values.shape[1:]) for name, values in user.items()}
    return model.forward({**repeated, **candidates})["y_pred"].reshape(-1).cpu().numpy()
