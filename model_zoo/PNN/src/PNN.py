"""Product-based Neural Networks for User Response Prediction (Qu et al., ICDM 2016, arXiv 1611.00144), IPNN."""

from typing import Any, Literal

import torch
from fuxictr.pytorch.layers import FeatureEmbedding, InnerProductInteraction
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from model_zoo.DIEN.src.keywords import check_activations, check_choice, check_sizes
from model_zoo.parts.pooled import check_equal, pooled_sizes
from model_zoo.parts.score_mlp import ScoreMLP


class PNN(BaseModel):
    """MLP([f_1, ..., f_N, <f_i, f_j> for i < j]): the fields' embeddings and their inner products.

    Every keyword of the zoo's PNN has its meaning and default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.
        product_type: `inner`, the only one.

    Raises:
        ValueError: a keyword's value that is not allowed, a sequence that is not pooled, or fields of unequal size.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: str = "PNN",
        gpu: int = -1,
        learning_rate: float = 1e-3,
        embedding_dim: int = 10,
        hidden_units: list[int] = [64, 64, 64],
        hidden_activations: str | list[str] = "ReLU",
        net_dropout: float | list[float] = 0,
        batch_norm: bool = False,
        product_type: Literal["inner"] = "inner",
        embedding_regularizer: str | float | None = None,
        net_regularizer: str | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        check_choice("product_type", product_type, ("inner",))
        check_sizes(embedding_dim=embedding_dim, hidden_units=hidden_units)
        check_activations("hidden_activations", hidden_activations)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        sizes = pooled_sizes(feature_map, self.embedding_layer)
        check_equal(sizes)
        self.inner_product_layer = InnerProductInteraction(len(sizes), output="inner_product")
        mlp_size = sum(sizes) + self.inner_product_layer.interaction_units
        self.dnn = ScoreMLP(mlp_size, hidden_units, hidden_activations, net_dropout, batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores a batch of the zoo's loaders. Returns `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        fields = self.embedding_layer(X)
        features = torch.cat([fields.flatten(start_dim=1), self.inner_product_layer(fields)], dim=-1)
        return {"y_pred": self.output_activation(self.dnn(features))}
