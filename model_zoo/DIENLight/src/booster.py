"""Keywords of the booster, and loading of a trained booster."""

import difflib
import inspect
import pickle
from typing import Any

import torch

from model_zoo.DIEN.src import DIEN

_OF_BOTH = ("learning_rate", "embedding_dim", "embedding_regularizer", "net_regularizer")
_GIVEN = ("self", "feature_map", "model_id", "gpu", "kwargs")
KEYWORDS = frozenset(inspect.signature(DIEN.__init__).parameters) - {*_OF_BOTH, *_GIVEN}
"""Keywords of DIEN that a booster may have; the others belong to the shared embeddings and optimizer."""


def check_booster(keywords: dict[str, Any]) -> None:
    """Check that each keyword is one of `KEYWORDS`; DIEN checks the values.

    Raises:
        ValueError: a keyword is unknown; the message names the nearest.
    """
    for name in keywords:
        if name in _OF_BOTH:
            raise ValueError(
                f"booster: {name} must be set outside of booster; both networks share embeddings and optimizer"
            )
        if name not in KEYWORDS:
            near = difflib.get_close_matches(str(name), KEYWORDS, cutoff=0.5)
            listed = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(KEYWORDS))}"
            raise ValueError(f"booster: unknown key {name!r}; {listed}")


def load_frozen(booster: DIEN, file: str) -> None:
    """Load a checkpoint's weights into the booster, and freeze it.

    Raises:
        ValueError: the file does not exist, or does not match the booster.
    """
    try:
        booster.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or it holds more than tensors and numbers; train again"
        raise ValueError(f"booster_checkpoint={file!r} is refused: {reason}") from error
    except Exception as error:  # a file that is not a checkpoint fails in many ways
        lines = [line.strip() for line in str(error).splitlines() if not line.startswith("Error(s) in loading")]
        raise ValueError(f"booster_checkpoint={file!r} does not load: {(lines or [''])[0][:200]}") from error
    booster.requires_grad_(False)
