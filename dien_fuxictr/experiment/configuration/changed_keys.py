"""List keys of earlier versions, each with what to write instead."""

from typing import Any

from model_zoo.DIEN.src.changed_keywords import CHANGED_KEYWORDS

CHANGED_KEYS: dict[str, str] = CHANGED_KEYWORDS | {
    "aux_pool": "is now aux_negative_scope; its value worker is now shard",
    "batch_statistics": "is now sync_batch_norm: True for all, False for worker",
    "behaviour_dropout": "is gone: it did not improve any model",
    "embedding_learning_rate": "is gone: embeddings are trained with learning_rate",
    "embedding_reinit": "is gone: it lowered the AUC of every model",
}
"""Key -> the rest of the sentence that refuses it: `is now <key>`, or why it was removed."""

_RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "augru_sign": ("augru_gate", {"paper": "paper", "code": "tensorflow"}),
    "aux_pool": ("aux_negative_scope", {"batch": "batch", "worker": "shard"}),
    "batch_statistics": ("sync_batch_norm", {"all": True, "worker": False}),
    "data_loader": ("data_loader", {"flat": "memory_mapped"}),
}
"""Key -> what it is now, and its values."""


def with_current_keys(params: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of a trained model in the keys of today.

    Removed keys are left out: they said how to train it, not how it scores.
    """
    current = {key: value for key, value in params.items() if key not in CHANGED_KEYS}
    for key, (name, values) in _RENAMED.items():
        if key in params:
            current[name] = values.get(params[key], params[key])
    if isinstance(current.get("aux_loss_alpha"), list):  # a weight per epoch
        current["aux_loss_alpha"] = max(current["aux_loss_alpha"], default=0)
    return current
