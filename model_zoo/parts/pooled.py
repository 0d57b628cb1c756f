"""Helpers of models whose histories are pooled by the zoo's feature encoders."""

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding
from torch import nn

from model_zoo.DIEN.src.fields import embedding_sizes


def pooled_sizes(feature_map: FeatureMap, layer: FeatureEmbedding) -> list[int]:
    """Return the embedding size of each field of `layer`.

    Raises:
        ValueError: no feature encoder pools a sequence.
    """
    sizes = embedding_sizes(feature_map.features, layer.embedding_layer)
    for name, size in sizes.items():
        if len(size) != 2:
            encoder = feature_map.features[name].get("feature_encoder")
            raise ValueError(
                f"{name}: feature_encoder={encoder!r} leaves the sequence's steps, but the model needs "
                "one value per row; set feature_encoder: layers.MaskedSumPooling() or "
                "layers.MaskedAveragePooling() in feature_cols or feature_specs"
            )
    return [size[-1] for size in sizes.values()]


def check_equal(sizes: list[int]) -> None:
    """Check that all fields have equal sizes, which inner products need.

    Raises:
        ValueError: the sizes differ.
    """
    if len(set(sizes)) > 1:
        raise ValueError(f"embedding_dim: the fields' sizes {sizes} differ, but inner products need equal ones")


def start_linear_weights_small(linear: nn.Module) -> None:
    """Draw small initial weights for a linear part, like the zoo's embeddings.

    The zoo leaves out features that share an embedding, although its linear part shares none: the weights of a history
    would start as N(0, 1), and their sum would dominate all other terms.
    """
    for layer in linear.modules():
        if isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=1e-4)
            if layer.padding_idx is not None:
                with torch.no_grad():
                    layer.weight[layer.padding_idx] = 0
