"""Measure scores of one user's candidates without HTTP, natively and by layers.

The layers use the same kernels.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dien_fuxictr.serving.bundle import open_bundle
from dien_fuxictr.serving.request import Inputs, Limits, RequestReader, scorer_of
from model_zoo.DIEN.src import DIEN

from ..clock import interleaved
from ..inference import score_candidates
from ..report import Row
from .bundles import Workshop

NATIVE, LAYERS = "native", "layer by layer"
MODELS: dict[str, dict[str, Any]] = {
    "H 36": {},
    "H 36, Dice": {"attention_activation": "Dice"},
    "H 108": {"gru_hidden_size": 108},
    "H 32": {"gru_hidden_size": 32},
    "H 32, light": {"gru_hidden_size": 32, "attention_hidden_units": [16, 8], "dnn_hidden_units": [64, 32]},
}
"""Name -> keys of DIEN; the light one is that of config/rocket_launching."""

Shape = tuple[int, int]
"""Behaviours and candidates."""


def path_rows(workshop: Workshop, shapes: Sequence[Shape], rounds: int) -> list[Row]:
    """Return one row per model, path and shape; with one thread."""
    torch.set_num_threads(1)
    tasks: dict[tuple[str, str, Shape], Callable[[], object]] = {}
    for name, keys in MODELS.items():
        bundle = open_bundle(workshop.bundle(file_name(name), **keys))
        read, native = RequestReader(bundle, Limits()).read, scorer_of(bundle.model)
        for shape in shapes:
            inputs = read(workshop.request(*shape, np.random.default_rng(0)))
            tasks[name, NATIVE, shape] = partial(native, inputs)
            tasks[name, LAYERS, shape] = partial(score_candidates, cast(DIEN, bundle.model), *_tensors(inputs))
    times = interleaved(tasks, rounds)
    return [
        {
            "behaviours x candidates": _text(shape),
            "model": name,
            "path": path,
            "ms": 1000 * min(seconds),
            "seconds": seconds,
        }
        for (name, path, shape), seconds in sorted(times.items(), key=lambda item: shapes.index(item[0][2]))
    ]


def ratio_rows(rows: Sequence[Row], shapes: Sequence[Shape]) -> list[Row]:
    """Return ratios of paths in one run, with one row per shape."""
    ms = {(row["behaviours x candidates"], row["model"], row["path"]): row["ms"] for row in rows}

    def of(shape: Shape, model: str, path: str) -> float:
        return ms[_text(shape), model, path]

    return [
        {
            "behaviours x candidates": _text(shape),
            f"{LAYERS} / {NATIVE}, H 36": of(shape, "H 36", LAYERS) / of(shape, "H 36", NATIVE),
            f"Dice / Sigmoid, {NATIVE}": of(shape, "H 36, Dice", NATIVE) / of(shape, "H 36", NATIVE),
            f"Dice / Sigmoid, {LAYERS}": of(shape, "H 36, Dice", LAYERS) / of(shape, "H 36", LAYERS),
            **{
                f"H 108 {LAYERS} / {small} {NATIVE}": of(shape, "H 108", LAYERS) / of(shape, small, NATIVE)
                for small in ("H 32", "H 32, light")
            },
        }
        for shape in shapes
    ]


def file_name(name: str) -> str:
    """Return a model's name as an experiment id."""
    return name.replace(",", "").replace(" ", "_")


def _text(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]}"


def _tensors(inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return features of the user and of the candidates.

    Values that all candidates share are repeated.
    """
    user, candidates = (
        {name: torch.from_numpy(np.asarray(values)) for name, values in part.items()}
        for part in (inputs.user, inputs.candidates)
    )
    shared = {name: values.expand(inputs.count) for name, values in user.items() if values.dim() == 1}
    return user, candidates | shared
