"""Trace against the model itself, step by step."""

from typing import Any

import numpy as np
import pytest
import torch
from made import DEFAULTS, TWO, features, make_batch, make_feature_map, moved

from dien_fuxictr.studies.evolution import evolution
from dien_fuxictr.studies.evolution.evolution import Trace
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.kernels import reference
from model_zoo.DIEN.src.layers.packing import Packing

CANDIDATES = [(3, 2), (17, 5), (17, 1)]
STEPS = 5
MODELS: list[dict[str, Any]] = [
    {"gru_type": "AIGRU"},
    {"gru_type": "AGRU"},
    {"gru_type": "AUGRU"},
    {"augru_gate": "tensorflow", "attention_type": "din_attention"},
    {"use_attention_softmax": False},
    {"enable_sum_pooling": True, "attention_type": "dot_attention"},
    TWO,
    {"gru_hidden_size": 3},
    {"task": "regression", "loss": "mse_loss"},
]


def make_model(**keywords: Any) -> DIEN:
    torch.manual_seed(0)
    model = DIEN(make_feature_map(features()), **{**DEFAULTS, **keywords})
    with torch.no_grad():
        for layer in model.embedding_layer.modules():
            if isinstance(layer, torch.nn.Embedding):
                layer.weight[1:].normal_()
    return model.eval()


def trace(model: DIEN, batch: dict[str, torch.Tensor], candidates: list[tuple[int, ...]]) -> Trace:
    return evolution.trace(model, model.get_inputs(batch), candidates)


def row_with(batch: dict[str, torch.Tensor], candidate: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return batch | {name: torch.tensor([value]) for name, value in zip(("item_id", "cate_id"), candidate, strict=True)}


@pytest.mark.parametrize("keywords", MODELS)
def test_predictions_are_the_models_own(keywords: dict[str, Any]) -> None:
    model, batch = make_model(**keywords), make_batch([STEPS])
    traced = trace(model, batch, CANDIDATES)
    with torch.no_grad():
        own = [model(row_with(batch, candidate))["y_pred"].item() for candidate in CANDIDATES]
    assert len(set(own)) == 3
    np.testing.assert_allclose(traced.predictions, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keywords", MODELS)
def test_states_follow_the_papers_equations(keywords: dict[str, Any]) -> None:
    model, batch = make_model(**keywords), make_batch([STEPS])
    traced = trace(model, batch, CANDIDATES)
    assert traced.attention.shape == (4, STEPS) and traced.states.shape[:2] == (4, STEPS)
    layer, interest = model.sequences[0].evolution, model.extract(model.embed_behaviours(batch))[0]
    with torch.no_grad():
        for attention, states in zip(torch.tensor(traced.attention), torch.tensor(traced.states), strict=True):
            state = torch.zeros(1, states.size(1))
            for step in range(STEPS):
                here = slice(step, step + 1)
                _, state = reference.recurrence(
                    interest.states[here],
                    Packing.of_lengths(torch.tensor([1])),
                    attention[here],
                    state,
                    layer.weight_ih,
                    layer.weight_hh,
                    layer.bias,
                    layer.kind,
                )
                torch.testing.assert_close(states[step], state[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keywords", MODELS)
def test_last_state_is_what_the_mlp_sees(keywords: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(**keywords), make_batch([STEPS])
    traced, seen = trace(model, batch, CANDIDATES), []
    predict_logits = model.predict_logits
    monkeypatch.setattr(model, "predict_logits", lambda *parts: seen.append(parts[3][0]) or predict_logits(*parts))
    with torch.no_grad():
        for candidate, states in zip(CANDIDATES, traced.states, strict=False):
            model(row_with(batch, candidate))
            np.testing.assert_allclose(states[-1], seen[-1][0].numpy(), rtol=1e-4, atol=1e-6)


def test_attention_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(), make_batch([STEPS])
    traced = trace(model, batch, CANDIDATES)
    for candidate, attention in zip(CANDIDATES, traced.attention, strict=False):
        row = row_with(batch, candidate)
        np.testing.assert_allclose(attention, model.diagnostics(row)["attention/item_history"], rtol=1e-5)
        scores = (
            model.extract(model.embed_behaviours(row))[0].states
            @ model.sequences[0].attention.weight
            @ model.embed_targets(model.embed_profile(row))[0][0]
        )
        np.testing.assert_allclose(attention, scores.softmax(dim=0).detach(), rtol=1e-4)
    assert len(np.unique(traced.attention[:3], axis=0)) == 3
    np.testing.assert_allclose(traced.attention[3], 1 / STEPS)


def test_without_softmax_no_target_is_a_plain_gru() -> None:
    traced = trace(make_model(use_attention_softmax=False), make_batch([STEPS]), CANDIDATES)
    assert (traced.attention[-1] == 1).all()
    plain = make_model(gru_type="GRU")
    weighted = make_model(use_attention_softmax=False)
    plain.sequences[0].evolution.load_state_dict(weighted.sequences[0].evolution.state_dict())
    interest = weighted.extract(weighted.embed_behaviours(make_batch([STEPS])))[0]
    states, _ = plain.sequences[0].evolution(interest.states, interest.behaviours.packing)
    np.testing.assert_allclose(traced.states[-1], states.detach(), rtol=1e-4, atol=1e-6)


def test_padding_is_no_step() -> None:
    model, batch = make_model(), make_batch([3])
    expected = trace(model, batch, CANDIDATES)
    assert expected.attention.shape == (4, 3)
    for place in (lambda n, width: slice(width - n, width), lambda n, width: [0, 2, 5]):
        found = trace(model, moved(batch, place), CANDIDATES)
        for name in Trace.__dataclass_fields__:
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-7)


def test_one_candidate_and_one_behaviour() -> None:
    traced = trace(make_model(), make_batch([1]), [(3, 2)])
    np.testing.assert_array_equal(traced.attention, [[1], [1]])
    np.testing.assert_allclose(traced.states[0], traced.states[1])
