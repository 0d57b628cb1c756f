"""Product-based Neural Network, IPNN (Qu et al., ICDM 2016, arXiv 1611.00144)."""

from typing import Any

import torch
from fuxictr.pytorch.layers import InnerProductInteraction
from torch import Tensor

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import PooledMLPModel
from model_zoo.parts.pooled import check_equal


class PNN(PooledMLPModel):
    """Model MLP([f_1, ..., f_N, <f_i, f_j> for i < j]).

    The MLP reads the fields' embeddings and their inner products. Every keyword of the zoo's PNN keeps its meaning and
    default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.
        product_type: `inner`, the only one.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, a sequence is not pooled, or fields have unequal sizes.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "PNN",
        product_type: own.ProductType = "inner",
        **kwargs: Any,
    ) -> None:
        check_keywords(PNN.__init__, locals())
        super().__init__(feature_map, model_id=model_id, **kwargs)
        check_equal(self.sizes)
        self.inner_product_layer = InnerProductInteraction(len(self.sizes), output="inner_product")
        self.dnn = self.make_mlp(sum(self.sizes) + self.inner_product_layer.interaction_units)
        self.finish()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        fields = self.embedding_layer(X)
        features = torch.cat([fields.flatten(start_dim=1), self.inner_product_layer(fields)], dim=-1)
        return {"y_pred": self.output_activation(self.dnn(features))}
