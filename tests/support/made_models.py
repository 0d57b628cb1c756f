"""Models compared with DIEN, small, on the made features."""

from collections.abc import Sequence
from typing import Any

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, SEQUENCES, features, make_feature_map

from model_zoo.BST.src import BST
from model_zoo.BST.src.transformer import BehaviorTransformer
from model_zoo.DeepFM.src import DeepFM
from model_zoo.DIENLight.src import DIENLight
from model_zoo.DIN.src import DIN
from model_zoo.DMNPlus.src import DMNPlus
from model_zoo.DREAM.src import DREAM
from model_zoo.DSIN.src import DSIN
from model_zoo.DSIN.src.sessions import BiasEncoding
from model_zoo.EmbeddingMLP.src import EmbeddingMLP
from model_zoo.FM.src import FM
from model_zoo.GRUAttention.src import GRUAttention
from model_zoo.PNN.src import PNN
from model_zoo.WideDeep.src import WideDeep

FIELDS = {"target_field": ("item_id", "cate_id"), "sequence_field": ("item_history", "cate_history")}
TWO = {
    "target_field": [("item_id", "cate_id"), "query"],
    "sequence_field": [("item_history", "cate_history"), "query_history"],
}
MODELS: dict[str, type[BaseModel]] = {
    model.__name__: model
    for model in (EmbeddingMLP, WideDeep, PNN, DIN, GRUAttention, BST, DMNPlus, DSIN, DREAM, DIENLight, FM, DeepFM)
}
STEPWISE = ("EmbeddingMLP", "DIN", "GRUAttention", "BST", "DMNPlus", "DSIN", "DREAM", "DIENLight")
POOLED = ("WideDeep", "PNN", "FM", "DeepFM")
DNN = {"dnn_hidden_units": [8, 4], "batch_norm": True}
ATTENTION = {"attention_hidden_units": [6, 3]}
MLP = {"hidden_units": [8, 4], "batch_norm": True}
SMALL: dict[str, dict[str, Any]] = {
    "EmbeddingMLP": {**DNN, **FIELDS},
    "DIN": {**DNN, **ATTENTION, **{f"din_{k}": v for k, v in FIELDS.items()}},
    "GRUAttention": {**DNN, **ATTENTION, **FIELDS},
    "BST": {**DNN, **{f"bst_{k}": v for k, v in FIELDS.items()}},
    "DMNPlus": {**DNN, **FIELDS},
    "DSIN": {**DNN, **FIELDS},
    "DREAM": {**DNN, **FIELDS},
    "DIENLight": {
        **{key: DEFAULTS[key] for key in DEFAULTS if key.startswith(("dien_", "dnn_", "attention_", "aux_"))},
        "gru_hidden_size": 3,
        "aux_loss_alpha": 1.0,
        "booster": {"gru_hidden_size": None},
    },
    "WideDeep": MLP,
    "PNN": MLP,
    "FM": {},
    "DeepFM": MLP,
}
TRAINING = {key: DEFAULTS[key] for key in ("optimizer", "loss", "metrics", "verbose", "model_root", "embedding_dim")}


def pooled_features(pooling: str = "Sum", pooled: Sequence[str] = SEQUENCES, **dims: int) -> dict[str, dict]:
    spec = features(**dims)
    for name in pooled:
        spec[name]["feature_encoder"] = f"layers.Masked{pooling}Pooling()"
    return spec


def make_model(name: str, spec: dict[str, dict] | None = None, seed: int = 0, **keywords: Any) -> BaseModel:
    """Return the model with embeddings large enough for every part to matter."""
    torch.manual_seed(seed)
    spec = spec or (pooled_features() if name in POOLED else features())
    model = MODELS[name](make_feature_map(spec), **{**TRAINING, **SMALL[name], **keywords})
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Embedding):
                layer.weight[1:].normal_()
            if isinstance(layer, BehaviorTransformer) and layer.positions is not None:
                layer.positions.normal_()
            if isinstance(layer, BiasEncoding):
                for weight in layer.parameters():
                    weight.normal_()
    return model


def tables_of(model: BaseModel) -> Any:
    """Return the embedding layers of a model by their features."""
    (layer,) = (layer for layer in model.modules() if isinstance(layer, FeatureEmbeddingDict))
    return layer.embedding_layers
