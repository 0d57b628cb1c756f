"""Refuse keywords of earlier versions and name their replacement.

A keyword that is silently ignored would train a different model.
"""

from collections.abc import Iterable

CHANGED_KEYWORDS: dict[str, str] = {
    "augru_sign": "is now augru_gate; its value code is now tensorflow",
    "aux_pretrain_epochs": "is gone: every epoch trains L_target + aux_loss_alpha * L_aux",
}
"""Keyword -> the rest of the sentence that refuses it."""


def refuse_changed(keywords: Iterable[str]) -> None:
    """Raise ValueError for the first keyword of an earlier version."""
    for keyword in keywords:
        if keyword in CHANGED_KEYWORDS:
            raise ValueError(f"{keyword} {CHANGED_KEYWORDS[keyword]}")
