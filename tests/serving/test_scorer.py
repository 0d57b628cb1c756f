"""Scores of one user's candidates are those of the forward pass on as many rows."""

from typing import Any

import numpy as np
import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, TWO, VOCABULARY, features, make_feature_map
from made_models import MODELS, make_model
from torch import Tensor

from dien_fuxictr.serving.request import Inputs
from dien_fuxictr.serving.scorer import scorer_of
from model_zoo.DIEN.src import DIEN

SIZES = [(0, 1), (0, 33), (1, 31), (63, 33), (100, 1000), (63, 1)]
ROOTS = {"item_history": "item_id", "cate_history": "cate_id", "query_history": "query"}
KEYWORDS: list[dict[str, Any]] = [
    {},
    {"gru_type": "GRU"},
    {"gru_type": "AIGRU", "attention_type": "din_attention", "attention_activation": "Sigmoid"},
    {"gru_type": "AGRU", "use_attention_softmax": False, "attention_type": "dot_attention"},
    {"augru_sign": "code", "attention_type": "din_attention", "enable_sum_pooling": True},
    {**TWO, "enable_sum_pooling": True},
]


def made_dien(**keywords: Any) -> DIEN:
    torch.manual_seed(0)
    spec = features(max_len=100)
    for name in ("query_history",) if "dien_target_field" not in keywords else ():
        spec[name]["feature_encoder"] = "layers.MaskedAveragePooling()"
    model = DIEN(make_feature_map(spec), **{**DEFAULTS, **keywords})
    return spread(model)


def spread(model: Any) -> Any:
    """Weights of a size that a trained model has, running statistics too: differences show."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embedding" not in name and weight.is_floating_point():
                weight.mul_(2)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[1:].normal_()
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.3)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def inputs_of(steps: int, count: int, seed: int = 0) -> Inputs:
    """With gaps in the history, and a query that is the user's."""
    generator = torch.Generator().manual_seed(seed)

    def ids(name: str, *shape: int) -> Tensor:
        return torch.randint(1, VOCABULARY[name], shape, generator=generator)

    real = torch.rand(1, max(steps, 1), generator=generator) > 0.1
    user = {name: ids(root, 1, max(steps, 1)) * (real & (steps > 0)) for name, root in ROOTS.items()}
    user |= {name: torch.zeros(1, max(steps, 1), dtype=torch.long) for name in ("session_history", "day_history")}
    user |= {name: torch.zeros(1, max(steps, 1), dtype=torch.long) for name in ("neg_item_history", "neg_cate_history")}
    user |= {"query": ids("query", 1)}
    candidates = {name: ids(name, count) for name in ("item_id", "cate_id")}
    candidates["price"] = torch.rand(count, generator=generator)
    return Inputs(user, candidates, count, {}, {})


@torch.no_grad()
def by_forward(model: BaseModel, inputs: Inputs) -> np.ndarray:
    rows = {name: values.repeat(inputs.count, *[1] * (values.dim() - 1)) for name, values in inputs.user.items()}
    return model.forward({**rows, **inputs.candidates})["y_pred"].squeeze(1).numpy()


@pytest.mark.parametrize("keywords", KEYWORDS, ids=str)
def test_of_a_dien(keywords: dict[str, Any]) -> None:
    model = made_dien(**keywords)
    score = scorer_of(model)
    for steps, count in SIZES:
        inputs = inputs_of(steps, count)
        got = score(inputs)
        assert got.shape == (count,) and got.dtype == np.float32
        np.testing.assert_allclose(got, by_forward(model, inputs), rtol=0, atol=1e-5)


def test_it_is_not_the_forward_pass_of_a_dien(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = made_dien(), []
    extract = model.extract
    monkeypatch.setattr(
        model, "extract", lambda behaviours: seen.append(len(behaviours[0].packing.lengths)) or extract(behaviours)
    )
    scorer_of(model)(inputs_of(9, 40))
    assert seen == [1]


@pytest.mark.parametrize("name", MODELS)
def test_of_any_model(name: str) -> None:
    model = spread(make_model(name, None))
    for steps, count in [(0, 1), (6, 33), (3, 1)]:
        inputs = inputs_of(6, count)
        inputs = Inputs({k: v * (steps > 0) if v.dim() == 2 else v for k, v in inputs.user.items()}, *_rest(inputs))
        np.testing.assert_allclose(scorer_of(model)(inputs), by_forward(model, inputs), rtol=0, atol=1e-5)


def _rest(inputs: Inputs) -> tuple[Any, ...]:
    return inputs.candidates, inputs.count, inputs.ids, inputs.unknown


def test_order_matters() -> None:
    """What could not fail would test nothing: another order of the history, and other candidates, score otherwise."""
    model = made_dien()
    score, inputs = scorer_of(model), inputs_of(63, 33)
    expected = score(inputs)
    user = {name: values.flip(1) if values.dim() == 2 else values for name, values in inputs.user.items()}
    assert abs(score(Inputs(user, *_rest(inputs))) - expected).max() > 1e-3
    candidates = {name: values.flip(0) for name, values in inputs.candidates.items()}
    swapped = score(Inputs(inputs.user, candidates, *_rest(inputs)[1:]))
    assert abs(swapped - expected).max() > 1e-3
    np.testing.assert_allclose(swapped[::-1], expected, rtol=0, atol=1e-5)


def test_no_candidates() -> None:
    assert scorer_of(made_dien())(inputs_of(5, 0)).tolist() == []


def test_no_gradients_are_kept() -> None:
    model = made_dien()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scorer_of(model)(inputs_of(5, 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
