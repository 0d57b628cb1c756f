"""Wide & Deep Learning for Recommender Systems (Cheng et al., DLRS 2016, arXiv 1606.07792)."""

from typing import Any

from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from model_zoo.DIEN.src.keywords import check_activations, check_sizes
from model_zoo.parts.pooled import pooled_sizes, start_linear_weights_small
from model_zoo.parts.score_mlp import ScoreMLP


class WideDeep(BaseModel):
    """σ(w·x + MLP(v)), eq. (3): x the ids, v their embeddings; a history is wide as the sum of its ids' weights.

    Every keyword of the zoo's WideDeep has its meaning and default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.

    Raises:
        ValueError: a keyword's value that is not allowed, or a sequence that is not pooled.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: str = "WideDeep",
        gpu: int = -1,
        learning_rate: float = 1e-3,
        embedding_dim: int = 10,
        hidden_units: list[int] = [64, 64, 64],
        hidden_activations: str | list[str] = "ReLU",
        net_dropout: float | list[float] = 0,
        batch_norm: bool = False,
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
        check_sizes(embedding_dim=embedding_dim, hidden_units=hidden_units)
        check_activations("hidden_activations", hidden_activations)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        sizes = pooled_sizes(feature_map, self.embedding_layer)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.dnn = ScoreMLP(sum(sizes), hidden_units, hidden_activations, net_dropout, batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        start_linear_weights_small(self.lr_layer)
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores a batch of the zoo's loaders. Returns `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        deep = self.dnn(self.embedding_layer(X, flatten_emb=True))
        return {"y_pred": self.output_activation(self.lr_layer(X) + deep)}
