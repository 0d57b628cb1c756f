"""What an exported model takes: encoded features by name, as the loaders give them, and the user of each candidate."""

from typing import NamedTuple

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from model_zoo.DIEN.src import DIEN

ROW = "row"
"""The input that says which user a candidate is of."""
_USERS, _CANDIDATES = "users", "candidates"
_LARGEST = 1 << 31


class Input(NamedTuple):
    """One input.

    shape: names of what may be any number, and numbers. dtype: int64 of ids, float32 of numbers.
    """

    shape: tuple[str | int, ...]
    dtype: torch.dtype


def inputs_of(model: BaseModel) -> dict[str, Input]:
    """The features that a model reads: of a sequence (B, T), once a user; of any other (N,), once a candidate.

    The sequences of one behaviour have one T.
    """
    specs = {name: spec for name, spec in model.feature_map.features.items() if spec["type"] != "meta"}
    together = [sequence.fields.behaviours for sequence in model.sequences] if isinstance(model, DIEN) else []
    read = {*model.profile_fields, *sum(together, ())} if isinstance(model, DIEN) else specs.keys()
    steps: dict[str, str] = {}
    inputs = {}
    for names in (*together, *([name] for name in specs)):
        of_them = next((steps[name] for name in names if name in steps), f"steps_{len(set(steps.values()))}")
        steps |= {name: of_them for name in names if name in read and specs[name]["type"] == "sequence"}
    for name in (name for name in specs if name in read):
        kind = specs[name]["type"]
        if kind == "sequence":
            inputs[name] = Input((_USERS, steps[name]), torch.int64)
        elif kind == "embedding":
            inputs[name] = Input((_CANDIDATES, specs[name]["pretrain_dim"]), torch.float32)
        else:
            inputs[name] = Input((_CANDIDATES,), torch.int64 if kind == "categorical" else torch.float32)
    return inputs


def examples(inputs: dict[str, Input]) -> tuple[dict[str, Tensor], Tensor]:
    """Arguments of the module: sizes that are to be any number are 2 or more, as torch takes 1 for a constant."""
    names = {size for each in inputs.values() for size in each.shape if isinstance(size, str)}
    sizes = {name: 3 + number for number, name in enumerate(sorted(names | {_USERS, _CANDIDATES}))}
    features = {
        name: torch.zeros(*(size if isinstance(size, int) else sizes[size] for size in shape), dtype=dtype)
        for name, (shape, dtype) in inputs.items()
    }
    return features, torch.zeros(sizes[_CANDIDATES], dtype=torch.int64)


def dynamic_shapes(inputs: dict[str, Input]) -> tuple[dict[str, dict], dict]:
    """Of these arguments: what may be any number, 0 too."""
    names = {size for each in inputs.values() for size in each.shape if isinstance(size, str)}
    dims = {name: torch.export.Dim(name, min=0, max=_LARGEST) for name in names | {_CANDIDATES}}
    of_features = {
        name: {axis: dims[size] for axis, size in enumerate(shape) if isinstance(size, str)}
        for name, (shape, _) in inputs.items()
    }
    return of_features, {0: dims[_CANDIDATES]}
