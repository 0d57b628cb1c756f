"""BaseModel of the experiments of DIEN (Zhou et al., AAAI 2019, section 4.2): embedding, sum pooling, MLP."""

from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from model_zoo.DIEN.src.fields import Field
from model_zoo.DIEN.src.keywords import check_activations, check_sizes
from model_zoo.parts.history import HistoryEmbedding
from model_zoo.parts.score_mlp import ScoreMLP


class EmbeddingMLP(BaseModel):
    """MLP([Σe_t, e_a, profile]): the history is the sum of its behaviours.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        enable_target_product: adds e_a * Σe_t, which DIEN's `enable_sum_pooling` has too.

    Raises:
        ValueError: a keyword's value that is not allowed, or fields that do not fit the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: str = "EmbeddingMLP",
        gpu: int = -1,
        dnn_hidden_units: list[int] = [200, 80],
        dnn_activations: str | list[str] = "ReLU",
        learning_rate: float = 1e-3,
        embedding_dim: int = 16,
        net_dropout: float | list[float] = 0,
        batch_norm: bool = True,
        target_field: Field = [("item_id", "cate_id")],
        sequence_field: Field = [("item_history", "cate_history")],
        enable_target_product: bool = False,
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
        check_sizes(embedding_dim=embedding_dim, dnn_hidden_units=dnn_hidden_units)
        check_activations("dnn_activations", dnn_activations)
        self.enable_target_product = enable_target_product
        self.embedding_layer = HistoryEmbedding(feature_map, embedding_dim, target_field, sequence_field)
        pooled_size = (
            self.embedding_layer.sum_pooling_size()
            if enable_target_product
            else sum(self.embedding_layer.behaviour_sizes)
        )
        self.dnn = ScoreMLP(
            pooled_size + self.embedding_layer.profile_size, dnn_hidden_units, dnn_activations, net_dropout, batch_norm
        )
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores a batch of the zoo's loaders. Returns `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        pooled = [
            history.sum_pooling() if self.enable_target_product else history.packing.sum(history.behaviours)
            for history in histories
        ]
        return {"y_pred": self.output_activation(self.dnn(torch.cat([*pooled, profile], dim=-1)))}
