"""Two layers of GRU with attention, the closest baseline of DIEN (Zhou et al., AAAI 2019, section 4.2)."""

from typing import Any

from torch import Tensor, nn

from model_zoo.DIEN.src.attention import AttentionType, InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.fields import Field
from model_zoo.DIEN.src.kernels.backends import Backend
from model_zoo.DIEN.src.keywords import check_activations, check_backend, check_sizes
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields


class GRUAttention(HistoryModel):
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
        target_field: Field = [("item_id", "cate_id")],
        sequence_field: Field = [("item_history", "cate_history")],
        enable_sum_pooling: bool = False,
        attention_type: AttentionType = "din_attention",
        attention_hidden_units: list[int] = [80, 40],
        attention_activation: str | list[str] = "Dice",
        attention_dropout: float = 0,
        use_attention_softmax: bool = True,
        gru_hidden_size: int | None = None,
        recurrence_backend: Backend = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, HistoryFields(target_field, sequence_field), model_id=model_id, **kwargs)
        check_backend(recurrence_backend)
        check_sizes(
            attention_hidden_units=attention_hidden_units,
            gru_hidden_size=1 if gru_hidden_size is None else gru_hidden_size,
        )
        check_activations("attention_activation", attention_activation)
        self.enable_sum_pooling = enable_sum_pooling
        part_size = self.embedding_layer.sum_pooling_size() if enable_sum_pooling else 0
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
            part_size += hidden
        self.finish(part_size)

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
        return self.score(parts, profile)
