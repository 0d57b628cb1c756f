"""Experiments for models of a FuxiCTR checkout with the budget of a base.

A model's own keywords come from the checkout's entry. All else comes from the base: data set, task, metrics, optimizer,
learning rate, regularizers, batches, epochs, seed, threads, embedding size, and the MLP, whatever the model calls it.
"""

import re
from collections.abc import Sequence
from typing import Any

from fuxictr.pytorch.models import BaseModel

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.encoding.schema import active_columns
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.contract import constructor_keys, known_keys

POOLING = "layers.MaskedAveragePooling()"
_BUDGET = {"learning_rate", "embedding_dim"}
_MLP = re.compile(
    r"(?:(?:(?:stacked_|parallel_)?dnn|(?:top_)?mlp[12]?|block[12]|(?:user|item)_tower|dcn|net)_)?"
    r"(hidden_units|units|hidden_activations|activations|dropout|batch_norm)|residual_blocks"
)
# Dice has weights for each unit, but these models do not tell an activation how many units there are.
_WITHOUT_DICE = {"DeepCrossing", "FinalNet", "MaskNet", "PPNet", "QNN"}
_FIELD = re.compile(r"(?:\w+_)?(target|sequence)(?:_item)?_field")


def zoo_entry(checkout: Checkout, name: str, base: dict[str, Any]) -> dict[str, Any]:
    """Return the merged configuration of a model of the checkout.

    A model with keywords for target and sequence fields gets the base's, and histories of the data set's full length,
    as in the zoo, where such models may have weights for each position; for any other model, histories are averaged.
    If the base has the same name, its keywords are used, too.

    Args:
        checkout: has the model.
        name: name of its class.
        base: merged configuration of the base.

    Raises:
        UserError: no such model, it cannot be imported, or it needs fields that the base does not name.
    """
    model_class = checkout.model_class(name)
    keywords = constructor_keys(model_class)
    shared = known_keys(model_class) if base["model"] == name else known_keys(BaseModel) | _BUDGET
    entry = {key: value for key, value in checkout.entry(name).items() if key in keywords}
    entry |= {key: value for key, value in base.items() if key in shared}
    mlp = {_mlp_part(key): value for key, value in base.items() if _mlp_part(key)}
    if name in _WITHOUT_DICE and mlp.get("activations") == "Dice":
        del mlp["activations"]
    # Without layers, the model leaves out this MLP.
    entry |= {key: mlp[_mlp_part(key)] for key in keywords if _mlp_part(key) in mlp and entry.get(key) != []}
    if "regularizer" in keywords:  # of both embeddings and linear weights; such a model sets both others itself
        entry["regularizer"] = entry.pop("embedding_regularizer", base.get("regularizer"))
        entry.pop("net_regularizer", None)
    fields = _fields(name, keywords, base)
    entry |= fields | {"model": name, "model_id": f"zoo_{name}_{base['dataset_id']}", "zoo": str(checkout.path)}
    entry["feature_specs"] = _specs(fields, base)
    if fields:
        entry["trim_histories"] = False
    return entry


def _mlp_part(key: str) -> str | None:
    """Return what a keyword sets of the MLP, whatever its name; None if nothing."""
    match = _MLP.fullmatch(key)
    return match and (match[1] or "units").removeprefix("hidden_")


def _fields(name: str, keywords: set[str], base: dict[str, Any]) -> dict[str, Any]:
    of_base = {match[1]: value for key, value in base.items() if (match := _FIELD.fullmatch(key))}
    kinds = {key: match[1] for key in keywords if (match := _FIELD.fullmatch(key))}
    if kinds and not of_base:
        raise UserError(
            f"model {name!r} reads histories step by step, but target and sequence fields are missing in the base, "
            f"{base['model_id']}; choose another --base"
        )
    return {key: of_base[kind] for key, kind in kinds.items()}


def _specs(fields: dict[str, Any], base: dict[str, Any]) -> list[dict[str, Any]]:
    """Return `feature_specs` with an encoder for histories that no keyword names."""
    used, read = base.get("use_features"), _names(list(fields.values()))
    histories = [
        column["name"]
        for column in active_columns(base.get("feature_cols") or [])
        if column["type"] == "sequence" and (not used or column["name"] in used)
    ]
    return [
        *(base.get("feature_specs") or []),
        *({"name": name, "feature_encoder": None if name in read else POOLING} for name in histories),
    ]


def _names(fields: str | Sequence[Any]) -> list[str]:
    """Return the features of a field keyword: a name, or nested tuples and lists."""
    return [fields] if isinstance(fields, str) else [name for part in fields for name in _names(part)]
