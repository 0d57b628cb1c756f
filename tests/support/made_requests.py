"""One user and candidates as arguments of a scorer, and their forward scores."""

from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.layers import Dice as ZooDice
from made import DEFAULTS, TIMES, VOCABULARY, features, make_feature_map
from torch.utils._python_dispatch import TorchDispatchMode

from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.activations import Dice

Arrays = dict[str, np.ndarray]
HISTORIES = {"item_history": "item_id", "cate_history": "cate_id", "query_history": "query"}


def made_dien(spec: dict[str, dict] | None = None, **keywords: Any) -> DIEN:
    """Return a DIEN in evaluation mode, with weights like a trained model's.

    Differences show, and nothing saturates.
    """
    torch.manual_seed(0)
    spec = spec or features(max_len=100)
    if "dien_target_field" not in keywords:
        spec["query_history"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    spec["day_history"]["feature_encoder"] = "layers.MaskedSumPooling()"
    return spread_dien(DIEN(make_feature_map(spec), **{**DEFAULTS, **keywords}))


@torch.no_grad()
def spread(model: Any) -> Any:
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.weight[1:].normal_(std=0.5)
        if isinstance(module, AttentionalGRU):
            for parameter in module.parameters():
                parameter.mul_(2)
        norm = module.bn if isinstance(module, ZooDice) else module
        if isinstance(norm, (torch.nn.BatchNorm1d, Dice)):
            norm.running_mean.normal_(std=0.3)
            norm.running_var.uniform_(0.5, 1.5)
        if isinstance(module, torch.nn.BatchNorm1d) and module.affine:
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
        if isinstance(module, (Dice, ZooDice)):
            module.alpha.normal_(std=0.3)
        if isinstance(module, InterestAttention):
            # A sharp softmax; without one, gates below 0 or beyond 1 make states grow, and errors with them.
            _scale(module, 8 if module.use_softmax else 0.2)
    return model.eval()


@torch.no_grad()
def spread_dien(model: DIEN) -> DIEN:
    """Scale the MLP so that interests matter, even behind sigmoids."""
    hidden = [layer for layer in model.dnn.mlp if isinstance(layer, torch.nn.Linear)][:-1]
    for layer in hidden:
        layer.weight.mul_(4 if any(isinstance(each, torch.nn.Sigmoid) for each in model.dnn.mlp) else 1)
    for layer in hidden[:1]:
        layer.weight[:, : model.sequences[0].evolution.weight_hh.size(1)] *= 6
    spread(model)
    for name, layer in model.embedding_layer.embedding_layers.items():
        if name in TIMES:  # pooled as a sum
            layer.weight.mul_(0.1)
    return model


def _scale(attention: InterestAttention, factor: float) -> None:
    if attention.unit is not None:
        for parameter in attention.unit.layers[-1].parameters():
            parameter.mul_(factor)
    elif attention.attention_type == "bilinear_attention":
        attention.weight.mul_(factor / 2)


def request(steps: int, count: int, seed: int = 0, padding: str = "gaps") -> tuple[Arrays, Arrays]:
    """Return the features of user and candidates.

    One of 12 steps is padding: as `gaps` in the history, or before it.
    """
    random = np.random.default_rng(seed)
    length = steps + steps // 12 + 1
    gaps = np.sort(random.permutation(length)[:steps])
    place = gaps if padding == "gaps" else np.arange(length - steps, length)
    user = {}
    for name, root in HISTORIES.items():
        user[name] = np.zeros((1, length), np.int64)
        user[name][0, place] = random.integers(1, VOCABULARY[root], steps)
    for name in TIMES:
        user[name] = random.integers(0, 12, (1, length))
    user |= {name: np.zeros((1, length), np.int64) for name in ("neg_item_history", "neg_cate_history")}
    user["query"] = random.integers(1, VOCABULARY["query"], 1)
    candidates: Arrays = {name: random.integers(1, VOCABULARY[name], count) for name in ("item_id", "cate_id")}
    candidates["price"] = random.random(count)
    return user, candidates


@torch.no_grad()
def by_forward(model: Any, user: Arrays, candidates: Arrays, count: int) -> np.ndarray:
    rows = {name: np.repeat(values, count, axis=0) for name, values in user.items()} | candidates
    batch = {name: torch.from_numpy(values) for name, values in rows.items()}
    return model.forward(batch)["y_pred"].squeeze(1).numpy()


class NoOperators(TorchDispatchMode):
    """No operator of torch runs."""

    def __torch_dispatch__(self, func: Any, *_: Any) -> Any:
        raise AssertionError(f"{func} runs")


def native(model: Any) -> Any:
    """Its scorer, which is the native one: it runs no operator."""
    score = model.scorer()

    def alone(*arguments: Any) -> np.ndarray:
        with NoOperators():
            return score(*arguments)

    return alone
