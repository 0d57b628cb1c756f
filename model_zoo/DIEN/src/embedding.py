"""Embeddings of packed behaviours out of the zoo's embedding layer."""

from collections.abc import Iterable
from typing import cast

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from torch import Tensor, nn

from .layers.lookup import Steps, lookup


def embed_steps(layer: FeatureEmbeddingDict, *every: tuple[tuple[str, ...], Iterable[Tensor]]) -> tuple[Tensor, ...]:
    """Embeddings of steps, fields side by side; all that is looked up in one table has one gradient.

    Args:
        every: names of features, and ids (...) of each.

    Returns:
        One (..., D) each.
    """
    names = {name for fields, _ in every for name in fields}
    tables = {name: layer.embedding_layers[name] for name in names}
    encoded = any(name in layer.feature_encoders for name in names)
    if not encoded and all(type(table) is nn.Embedding for table in tables.values()):
        return lookup(
            *(Steps([cast(nn.Embedding, tables[name]) for name in fields], tuple(ids)) for fields, ids in every)
        )
    embedded = [layer(dict(zip(*steps, strict=True))) for steps in every]
    return tuple(
        torch.cat([x[name] for name in fields], dim=-1) for x, (fields, _) in zip(embedded, every, strict=True)
    )
