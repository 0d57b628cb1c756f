"""Forward pass over padded rows equals the model's own, for any operators."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_exports import KEYWORDS, SIZES, by_forward, made_dien, made_inputs

from model_zoo.DIEN.src import export_module, operators
from model_zoo.DIEN.src.export_module import PaddedDIEN, loop_evolve, loop_extract


def scan(step: Callable, h: Any, every: Any, dim: int) -> tuple[Any, Any]:
    """Loop like torch's `scan`, which compiles each shape anew, for seconds."""
    ys = []
    for now in zip(*every, strict=True):
        h, y = step(h, now)
        ys.append(y)
    return h, torch.stack(ys)


@pytest.mark.parametrize(
    "layers", [(loop_extract, loop_evolve), (operators.extract, operators.evolve)], ids=["loops", "operators"]
)
@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
@torch.no_grad()
def test_scores(keywords: dict[str, Any], layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "scan", scan)
    model = made_dien(**keywords)
    padded = PaddedDIEN(model, *layers)
    for sizes in SIZES:
        inputs, row = made_inputs(model, *sizes)
        expected = by_forward(model, inputs, row)
        np.testing.assert_allclose(padded(inputs, row), expected, rtol=0, atol=1e-5)
    inputs, row = made_inputs(model, 3, 17, 100)
    scores = padded(inputs, row)
    histories = {name: x.flip(1) if x.dim() == 2 else x for name, x in inputs.items()}
    assert (padded(histories, row) - scores).abs().max() > 1e-3
    assert (padded(inputs, (row + 1) % 3) - scores).abs().max() > 1e-3
