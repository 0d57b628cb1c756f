"""Scores of one user's candidates are those of the forward pass on as many rows."""

from typing import Any

import numpy as np
import pytest
from made_models import MODELS, make_model
from made_requests import by_forward, made_dien, request, spread

from dien_fuxictr.serving.request import Inputs, scorer_of


def inputs_of(steps: int, count: int) -> Inputs:
    return Inputs(*request(steps, count), count, {}, {}, {})


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_of_a_dien(backend: str) -> None:
    """Use the model's own scorer, which extracts the user's interests once."""
    model = made_dien(recurrence_backend=backend)
    score = scorer_of(model)
    for steps, count in [(0, 1), (0, 33), (1, 31), (63, 33), (63, 1)]:
        inputs = inputs_of(steps, count)
        got = score(inputs)
        assert got.shape == (count,) and got.dtype == np.float32
        np.testing.assert_allclose(got, by_forward(model, inputs.user, inputs.candidates, count), rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", [{"recurrence_backend": "torch"}, {"dnn_activations": "GELU"}])
def test_torch_extracts_the_interests_of_a_dien_once(form: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = made_dien(**form), []
    extract = model.extract
    monkeypatch.setattr(
        model, "extract", lambda behaviours: seen.append(len(behaviours[0].packing.lengths)) or extract(behaviours)
    )
    scorer_of(model)(inputs_of(9, 40))
    assert seen == [1]


@pytest.mark.parametrize("name", MODELS)
def test_of_any_model(name: str) -> None:
    model = spread(make_model(name, None))
    for steps, count in [(0, 1), (5, 33), (3, 1)]:
        inputs = inputs_of(steps, count)
        expected = by_forward(model, inputs.user, inputs.candidates, count)
        np.testing.assert_allclose(scorer_of(model)(inputs), expected, rtol=0, atol=1e-5)


def test_no_candidates() -> None:
    for model in (made_dien(), spread(make_model("WideDeep", None))):
        assert scorer_of(model)(inputs_of(5, 0)).tolist() == []


def test_no_gradients_are_kept() -> None:
    model = made_dien()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer_of(model)(inputs_of(5, 3))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
