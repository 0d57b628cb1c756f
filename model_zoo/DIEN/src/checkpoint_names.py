"""Checkpoints written when a part of all sequences had one list: `extractors.0` is `sequences.0.extractor` today."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any

PARTS = {
    "extractors": "extractor",
    "attentions": "attention",
    "evolutions": "evolution",
    "aux_losses": "auxiliary_loss",
}
OLD = re.compile(rf"({'|'.join(PARTS)})\.(\d+)\.(.+)")


def with_current_names(weights: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The same weights in the same order; `prefix` is of the names of all of the model's."""
    return {_current(name, prefix): value for name, value in weights.items()}


def rename_weights(_: Any, weights: MutableMapping[str, Any], prefix: str, *__: Any) -> None:
    """A hook for `torch.nn.Module.register_load_state_dict_pre_hook`."""
    current = with_current_names(weights, prefix)
    weights.clear()
    weights.update(current)


def _current(name: str, prefix: str) -> str:
    old = OLD.fullmatch(name.removeprefix(prefix))
    return f"{prefix}sequences.{old[2]}.{PARTS[old[1]]}.{old[3]}" if old else name
