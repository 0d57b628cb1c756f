"""Two layers of GRU with attention, the closest baseline of DIEN (Zhou et al., AAAI 2019, section 4.2)."""

from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from model_zoo.DIEN.src.attention import AttentionType, InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.fields import Field
from model_zoo.DIEN.src.kernels.backends import Backend
from model_zoo.DIEN.src.keywords import check_activations, check_backend, check_sizes
from model_zoo.parts.history import HistoryEmbedding
from model_zoo.parts.score_mlp import ScoreMLP


class GRUAttention(BaseModel):
    """h = GRU(e), h' = GRU(h), and the target's attention (8) pools the second layer: Σ_t a_t h'_t.

    DIEN without auxiliary loss differs in one thing: attention acts after the second recurrence, not inside it.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        enable_sum_pooling, attention_type, attention_hidden_units, attention_activation, attention_dropout,
            use_attention_softmax, gru_hidden_size, recurrence_backend: as in DIEN.

    Raises:
        ValueError: a keyword's value that is not allowed, or fields that do not fit the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: str = "GRUAttention",
        gpu: int = -1,
        dnn_hidden_units: list[int] = [200, 80],
        dnn_activations: str | list[str] = "ReLU",
        learning_rate: float = 1e-3,
        embedding_dim: int = 16,
        net_dropout: float | list[float] = 0,
        batch_norm: bool = True,
        target_field: Field = [("item_id", "cate_id")],
        sequence_field: Field = [("item_history", "cate_history")],
        enable_sum_pooling: bool = False,
        attention_type: AttentionType = "din_attention",
        attention_hidden_units: list[int] = [80, 40],
        attention_activation: str | list[str] = "Dice",
        attention_dropout: float = 0,
        use_attention_softmax: bool = True,
        embedding_regularizer: str | float | None = None,
        net_regularizer: str | float | None = None,
        gru_hidden_size: int | None = None,
        recurrence_backend: Backend = "auto",
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
        check_backend(recurrence_backend)
        check_sizes(
            embedding_dim=embedding_dim,
            dnn_hidden_units=dnn_hidden_units,
            attention_hidden_units=attention_hidden_units,
            gru_hidden_size=1 if gru_hidden_size is None else gru_hidden_size,
        )
        check_activations("dnn_activations", dnn_activations)
        check_activations("attention_activation", attention_activation)
        self.enable_sum_pooling = enable_sum_pooling
        self.embedding_layer = HistoryEmbedding(feature_map, embedding_dim, target_field, sequence_field)
        mlp_size = self.embedding_layer.profile_size
        if enable_sum_pooling:
            mlp_size += self.embedding_layer.sum_pooling_size()
        self.first_grus, self.second_grus, self.attentions = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for behaviour, target in zip(
            self.embedding_layer.behaviour_sizes, self.embedding_layer.target_sizes, strict=True
        ):
            hidden = gru_hidden_size or behaviour
            self.first_grus.append(AttentionalGRU(behaviour, hidden, "GRU", recurrence_backend))
            self.second_grus.append(AttentionalGRU(hidden, hidden, "GRU", recurrence_backend))
            self.attentions.append(
                InterestAttention(
                    hidden,
                    target,
                    attention_type,
                    attention_hidden_units,
                    attention_activation,
                    attention_dropout,
                    use_attention_softmax,
                    backend=recurrence_backend,
                )
            )
            mlp_size += hidden
        self.dnn = ScoreMLP(mlp_size, dnn_hidden_units, dnn_activations, net_dropout, batch_norm)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scores a batch of the zoo's loaders. Returns `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for i, history in enumerate(histories):
            states, _ = self.first_grus[i](history.behaviours, history.packing)
            states, _ = self.second_grus[i](states, history.packing)
            weights = self.attentions[i](states, history.target, history.packing)
            parts.append(history.packing.sum(weights.unsqueeze(1) * states))
            if self.enable_sum_pooling:
                parts.append(history.sum_pooling())
        return {"y_pred": self.output_activation(self.dnn(torch.cat([*parts, profile], dim=-1)))}
