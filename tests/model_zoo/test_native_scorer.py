"""Native scorer: scores of the forward pass, or torch for other models."""

import gc
import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from made import DEFAULTS, TWO, features, make_feature_map
from made_recurrence import NARROW, compiled, pairwise
from made_requests import NoOperators, by_forward, made_dien, native, request, spread_dien

from model_zoo.DIEN.src.attention import ATTENTION_TYPES
from model_zoo.DIEN.src.kernels.cpu import library
from model_zoo.DIENLight.src import DIENLight

pytestmark = compiled

SHAPES = [(0, 1), (0, 33), (1, 31), (63, 33), (100, 1000), (63, 1)]
"""Behaviours and candidates."""
KINDS: list[dict[str, Any]] = [{"gru_type": kind} for kind in ("GRU", "AIGRU", "AGRU", "AUGRU")]
KINDS += [{"augru_gate": "tensorflow"}]
ACTIVATIONS = ["Dice", "PReLU", "ReLU", "Sigmoid", "Tanh", ["Sigmoid", "PReLU"]]
DNN_ACTIVATIONS = ["ReLU", "Dice", "PReLU", "Sigmoid", ["Tanh", "ReLU"]]
FORMS = [
    {
        **kind,
        "attention_type": attention,
        "attention_activation": activation,
        "use_attention_softmax": softmax,
        "enable_sum_pooling": pooling,
        "batch_norm": norm,
        "dnn_activations": dnn,
        "gru_hidden_size": hidden,
        "net_dropout": 0.1,
        **fields,
    }
    for kind, attention, activation, softmax, pooling, norm, dnn, hidden, fields in pairwise(
        [
            *itertools.product(
                range(len(KINDS)),
                range(len(ATTENTION_TYPES)),
                range(len(ACTIVATIONS)),
                (True, False),
                (True, False),
                (True, False),
                range(len(DNN_ACTIVATIONS)),
                (None, 7, 36),
                (0, 1),
            )
        ]
    )
    for kind, attention, activation, dnn, fields in [
        (KINDS[kind], ATTENTION_TYPES[attention], ACTIVATIONS[activation], DNN_ACTIVATIONS[dnn], ({}, TWO)[fields])
    ]
]


def bound_of(form: dict[str, Any]) -> float:
    """How far two ways to the same score may be apart.

    Attention without softmax has no bound, so that a gate that it multiplies leaves [0, 1] and states grow step by
    step: an ulp in the weights moves the scores by up to 1e-5 there, with softmax by 2e-6.
    """
    return 1e-5 if form["use_attention_softmax"] else 1e-4


def check(score: Any, twin: Any, steps: int, count: int, padding: str = "gaps", bound: float = 1e-5) -> np.ndarray:
    user, candidates = request(steps, count, padding=padding)
    got = score(user, candidates, count)
    assert got.shape == (count,) and got.dtype == np.float32
    expected = by_forward(twin, user, candidates, count)
    assert np.isfinite(expected).all() and (count == 1 or expected.std() > 1e-4)
    np.testing.assert_allclose(got, expected, rtol=0, atol=bound)
    return got


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_scores_are_those_of_the_forward_pass(form: dict[str, Any]) -> None:
    score, twin, bound = native(made_dien(**form)), made_dien(**form, recurrence_backend="torch"), bound_of(form)
    for steps, count in SHAPES:
        check(score, twin, steps, count, bound=bound)
    check(score, twin, 63, 33, padding="pre", bound=bound)
    user, candidates = request(63, 33)
    shuffled = {name: values[:, ::-1] if values.ndim == 2 else values for name, values in user.items()}
    assert abs(score(shuffled, candidates, 33) - score(user, candidates, 33)).max() > 10 * bound


@pytest.mark.parametrize("attention", ATTENTION_TYPES)
def test_histories_and_candidates_count(attention: str) -> None:
    """Check that another order of history or other candidates change the scores.

    Otherwise the comparisons would test nothing.
    """
    score = native(made_dien(attention_type=attention, attention_activation="ReLU"))
    user, candidates = request(63, 33)
    expected = score(user, candidates, 33)
    shuffled = {name: values[:, ::-1] if values.ndim == 2 else values for name, values in user.items()}
    assert abs(score(shuffled, candidates, 33) - expected).max() > 1e-3
    swapped = score(user, {name: values[::-1] for name, values in candidates.items()}, 33)
    assert abs(swapped - expected).max() > 1e-3
    np.testing.assert_allclose(swapped[::-1], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["user", "candidates"])
def test_features_of_one_value_are_on_either_side(side: str) -> None:
    form = {**TWO, "enable_sum_pooling": True}
    score, twin = native(made_dien(**form)), made_dien(**form, recurrence_backend="torch")
    user, candidates = request(20, 40)
    for name in ("query", "price", "cate_id"):
        values = user.pop(name) if name in user else candidates.pop(name)[:1]
        if side == "user":
            user[name] = values
        else:
            candidates[name] = np.resize([values[0], *range(1, 8)], 40)
    expected = by_forward(twin, user, candidates, 40)
    np.testing.assert_allclose(score(user, candidates, 40), expected, rtol=0, atol=1e-5)


def test_no_candidates() -> None:
    user, candidates = request(5, 0)
    for backend in ("compiled", "torch"):
        scores = made_dien(recurrence_backend=backend).scorer()(user, candidates, 0)
        assert scores.shape == (0,) and scores.dtype == np.float32


def test_regression() -> None:
    form = {"task": "regression", "loss": "mse_loss", "metrics": ["MSE"]}
    score, twin = native(made_dien(**form)), made_dien(**form, recurrence_backend="torch")
    user, candidates = request(9, 33)
    expected = by_forward(twin, user, candidates, 33)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(score(user, candidates, 33), expected, rtol=0, atol=1e-5)


def made_light(backend: str) -> DIENLight:
    torch.manual_seed(0)
    own = {**DEFAULTS, "attention_type": "din_attention", "recurrence_backend": backend}
    return spread_dien(
        DIENLight(make_feature_map(features(100)), **own, gru_hidden_size=3, booster={"gru_hidden_size": 9})
    )


def test_a_light_net_is_scored_alone() -> None:
    model, twin = made_light("compiled"), made_light("torch")
    score = native(model)
    for steps, count in SHAPES:
        check(score, twin, steps, count)
    before = check(score, twin, 20, 33)
    with torch.no_grad():
        for weight in model.booster.dnn.parameters():
            weight.add_(1)
    assert np.array_equal(native(model)(*request(20, 33), 33), before)


LACKING = [
    ({"attention_type": "din_attention", "attention_activation": "GELU"}, "an attention unit of Linear, GELU"),
    ({"dnn_activations": "GELU"}, "an MLP of Linear, BatchNorm1d, GELU"),
    ({"dnn_hidden_units": []}, "an MLP of Linear, Sigmoid"),
    ({"recurrence_backend": "torch"}, "recurrence_backend=torch"),
    ({"dnn_activations": "GELU", "recurrence_backend": "reference"}, "recurrence_backend=reference; an MLP of Linear"),
]


@pytest.mark.parametrize("form,what", LACKING)
def test_what_the_native_call_lacks_is_torchs(
    form: dict[str, Any], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = made_dien(**form)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        score = model.scorer()
        check(score, model, 63, 33)
    (line,) = caplog.messages
    assert line.startswith(f"Candidates are scored by torch, which is slower: the native scorer lacks {what}")
    with pytest.raises(AssertionError, match=r"aten\..* runs"), NoOperators():
        score(*request(9, 3), 3)


def test_a_pooling_that_the_native_call_lacks_is_torchs(caplog: pytest.LogCaptureFixture) -> None:
    spec = features(100)
    spec["session_history"]["feature_encoder"] = ["layers.MaskedSumPooling()", "nn.Linear(4, 3)"]
    model = made_dien(spec)
    with caplog.at_level(logging.INFO):
        check(model.scorer(), model, 20, 33)
    assert caplog.messages[-1].endswith(
        "lacks session_history, sequence with feature_encoder=" + repr(["layers.MaskedSumPooling()", "nn.Linear(4, 3)"])
    )


def test_without_a_compiler_it_is_torchs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    model = made_dien(recurrence_backend="torch")
    for sequence in model.sequences:
        sequence.extractor.backend = sequence.evolution.backend = "auto"
    monkeypatch.setenv("CXX", "no-such-compiler")
    with caplog.at_level(logging.INFO):
        model.scorer()
    assert "the native scorer lacks The compiled backend needs a C++ compiler" in caplog.messages[-1]


def test_native_scorer_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    model = made_dien()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        model.scorer()
    assert not caplog.messages


def test_weights_are_those_of_when_it_was_made() -> None:
    model = made_dien(attention_type="din_attention")
    score, arguments = native(model), (*request(20, 33), 33)
    before = score(*arguments)
    with torch.no_grad():
        for name, weight in [*model.named_parameters(), *model.named_buffers()]:
            if "embedding_layer" not in name and weight.is_floating_point():
                weight.mul_(3).add_(1)
    assert np.array_equal(score(*arguments), before)
    assert abs(native(model)(*arguments) - before).max() > 1e-3
    del model
    gc.collect()
    assert np.array_equal(score(*arguments), before)


def test_requests_leave_nothing_behind() -> None:
    """Score long and short requests in one scorer, from several threads."""
    score = made_dien(attention_type="din_attention", enable_sum_pooling=True).scorer()
    every = [(*request(steps, count, seed), count) for seed, (steps, count) in enumerate(SHAPES * 4)]
    alone = [made_dien(attention_type="din_attention", enable_sum_pooling=True).scorer()(*each) for each in every[:6]]
    first = [score(*each) for each in every]
    assert all(map(np.array_equal, alone, first))
    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(lambda each: score(*each), every * 4), first * 4))


@pytest.mark.parametrize("flags", NARROW)
def test_narrow_vectors(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    model = made_dien(**TWO, attention_type="din_attention", enable_sum_pooling=True, gru_hidden_size=7)
    widest = model.scorer()
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    score = model.scorer()
    assert library.require() is score._score._library is not widest._score._library
    for steps, count in [(0, 1), (33, 33)]:
        check(score, model, steps, count)
        check(widest, model, steps, count)
