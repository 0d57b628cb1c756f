"""A model with simple gradients, its batches, and its training."""

import numpy as np
import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, make_feature_map
from torch import Tensor, nn

from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore

V, D = 12, 3
PAD, OOV = 0, V - 1
Batch = dict[str, Tensor]


class Dot(BaseModel):
    """Model logit = e_item · Σ_t e_history,t + price Σ a + b, with simple gradients."""

    def __init__(self, feature_map, embedding_dim=D, **kwargs):
        super().__init__(feature_map, **kwargs)
        self.embedding_layer = FeatureEmbeddingDict(
            feature_map, embedding_dim, embedding_initializer="partial(nn.init.normal_, std=0.5)"
        )
        self.bias = nn.Parameter(torch.zeros(1))
        self.compile(kwargs["optimizer"], kwargs["loss"], kwargs["learning_rate"])
        self.reset_parameters()

    def forward(self, inputs):
        e = self.embedding_layer(self.get_inputs(inputs))
        logits = (e["item"] * e["history"].sum(dim=1)).sum(-1) + e["price"].sum(-1) + self.bias
        return {"y_pred": logits.sigmoid().unsqueeze(-1)}


def dot_features(**item) -> dict[str, dict]:
    ids = {"source": "", "padding_idx": 0, "vocab_size": V, "oov_idx": OOV}
    return {
        "item": {**ids, "type": "categorical", **item},
        "price": {"source": "", "type": "numeric"},
        "history": {**ids, "type": "sequence", "share_embedding": "item", "max_len": 4},
    }


def make_dot(model_class: type[Dot] = Dot, spec: dict | None = None, data_dir="", **keywords) -> Dot:
    torch.manual_seed(0)
    settings = {**DEFAULTS, "embedding_dim": D, "learning_rate": 0.05, **keywords}
    return model_class(make_feature_map(spec or dot_features(), data_dir), **settings)


def dot_batch(seed: int, ids: list[int], rows: int = 6) -> Batch:
    """Items and histories of these ids, each of them at least once."""
    rng = np.random.default_rng(seed)
    cells = np.concatenate([ids, rng.choice([*ids, PAD], rows * 5 - len(ids))])
    rng.shuffle(cells)
    return {
        "item": torch.from_numpy(cells[:rows]),
        "history": torch.from_numpy(cells[rows:].reshape(rows, 4)),
        "price": torch.from_numpy(rng.random(rows)),
        "label": torch.from_numpy(rng.integers(0, 2, rows)).float(),
    }


ALL = list(range(1, V))
BATCHES = [
    dot_batch(seed, ids)
    for seed, ids in enumerate([ALL, [1, 2, OOV], [3, 4, 5], [1, 2, 3, OOV], [2], [6, 7, 8, 9], ALL, [5, 6]])
]


def train(model: BaseModel, batches: list[Batch], sparse: bool, max_norm: float = 1e9) -> BaseModel:
    if sparse:
        update_sparsely(WeightStore(model))
    trainer = Trainer(model, max_norm)
    model.train()
    for batch in batches:
        trainer.train_step(batch)
    return model


def table_of(model: BaseModel) -> np.ndarray:
    return model.embedding_layer.embedding_layers["item"].weight.detach().numpy().copy()
