"""The booster's keywords, and a booster that has been trained before."""

import difflib
import inspect
import pickle
from typing import Any

import torch

from model_zoo.DIEN.src import DIEN

_OF_BOTH = ("learning_rate", "embedding_dim", "embedding_regularizer", "net_regularizer")
_GIVEN = ("self", "feature_map", "model_id", "gpu", "kwargs")
KEYWORDS = frozenset(inspect.signature(DIEN.__init__).parameters) - {*_OF_BOTH, *_GIVEN}
"""DIEN's that a booster may have of its own: the rest is of its embeddings and optimizer, which it shares."""


def check_booster(keywords: dict[str, Any]) -> None:
    """Each is one of `KEYWORDS`; their values are DIEN's to check.

    Raises:
        ValueError: one is not; names the nearest.
    """
    for name in keywords:
        if name in _OF_BOTH:
            raise ValueError(f"booster: {name} is of both nets, which share embeddings and optimizer; set it outside")
        if name not in KEYWORDS:
            near = difflib.get_close_matches(str(name), KEYWORDS, cutoff=0.5)
            listed = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(KEYWORDS))}"
            raise ValueError(f"booster: unknown key {name!r}; {listed}")


def load_frozen(booster: DIEN, file: str) -> None:
    """Give the booster a checkpoint's weights, and let nothing move them.

    Raises:
        ValueError: no such file, or it does not fit.
    """
    try:
        booster.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        reason = "broken, or it holds more than tensors and numbers"
        raise ValueError(f"booster_checkpoint={file!r} is refused: {reason}") from error
    except Exception as error:  # a file that is no checkpoint fails in many ways
        lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Error(s) in loading")]
        raise ValueError(f"booster_checkpoint={file!r} does not load: {(lines or [''])[0][:200]}") from error
    booster.requires_grad_(False)
