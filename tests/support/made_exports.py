"""Models to export, what they take, and what their own forward pass says of it."""

from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, TWO, features, make_feature_map
from torch import Tensor

from dien_fuxictr.serving.export_model import inputs_of
from model_zoo.DIEN.src import DIEN

SIZES = [(1, 0, 3), (1, 1, 1), (1, 63, 33), (3, 17, 100), (40, 20, 40), (2, 5, 0)]
"""Users, behaviours and candidates."""
KEYWORDS: list[dict[str, Any]] = [
    {},
    {"gru_type": "GRU"},
    {"gru_type": "AIGRU", "attention_type": "din_attention", "attention_activation": "Sigmoid"},
    {"gru_type": "AGRU", "attention_type": "dot_attention", "gru_hidden_size": 5},
    {"augru_gate": "tensorflow", "attention_type": "din_attention", "enable_sum_pooling": True, "batch_norm": False},
    {"attention_type": "din_dense_attention", "attention_activation": ["PReLU", "ReLU"], "dnn_activations": "Dice"},
    {**TWO, "gru_type": "AIGRU", "use_attention_softmax": False, "enable_sum_pooling": True},
]
"""Settings of DIENs: every recurrence, attention and activation."""


def made_dien(**keywords: Any) -> DIEN:
    """Return a DIEN with a numeric feature and the mean of a sequence."""
    spec = features(max_len=100)
    spec["day_history"]["feature_encoder"] = "layers.MaskedAveragePooling()"
    torch.manual_seed(0)
    return with_weights(DIEN(make_feature_map(spec), **{**DEFAULTS, **keywords}))


def with_weights(model: BaseModel) -> Any:
    """Set evaluation mode, and weights and statistics that make histories matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight[1:] = torch.randn(module.weight[1:].shape, generator=generator)
        for name, value in model.state_dict().items():
            if name.startswith("sequences."):
                value.mul_(2)
            if name.endswith("running_mean"):
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif name.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model.eval()


def made_inputs(model: BaseModel, users: int, behaviours: int, candidates: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return inputs with gaps; the first of several users has no behaviours.

    The padding of the second comes first.
    """
    generator = torch.Generator().manual_seed(users + behaviours + candidates)
    real = torch.rand(users, behaviours, generator=generator) > 0.2
    if users > 1:
        real[0] = False
        real[1] = torch.arange(behaviours) >= behaviours // 3
    inputs = {}
    for name, (shape, _) in inputs_of(model.feature_map, model.export_module("torch")).items():
        spec = model.feature_map.features[name]
        if spec["type"] == "numeric":
            inputs[name] = torch.randn(candidates, generator=generator)
        else:
            size = (users, behaviours) if len(shape) == 2 else (candidates,)
            inputs[name] = torch.randint(1, spec["vocab_size"], size, generator=generator)
            inputs[name] *= real if len(shape) == 2 else 1
    return inputs, torch.randint(users, (candidates,), generator=generator)


@torch.no_grad()
def by_forward(model: BaseModel, inputs: dict[str, Tensor], row: Tensor) -> np.ndarray:
    """Return the scores of one row per candidate."""
    rows = {name: x[row] if x.dim() == 2 else x for name, x in inputs.items()}
    return model.forward(rows)["y_pred"].squeeze(1).numpy() if len(row) else np.zeros(0, np.float32)
