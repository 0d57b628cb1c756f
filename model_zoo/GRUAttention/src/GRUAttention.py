"""Two-layer GRU with attention (Zhou et al., AAAI 2019, section 4.2).

It is the baseline closest to DIEN.
"""

from typing import Any

from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.validation import check_backend, check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields


class GRUAttention(HistoryModel):
    """Model of two GRUs whose second layer is pooled by attention: Σ_t a_t h'_t.

    With h = GRU(e), h' = GRU(h), and the target's attention (8). DIEN without auxiliary loss differs in one point: its
    attention acts inside the second recurrence, here it acts after it.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        enable_sum_pooling, attention_type, attention_hidden_units, attention_activation, attention_dropout,
        use_attention_softmax, gru_hidden_size, recurrence_backend: as in DIEN.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "GRUAttention",
        target_field: own.TargetField = [("item_id", "cate_id")],
        sequence_field: own.SequenceField = [("item_history", "cate_history")],
        enable_sum_pooling: keywords.EnableSumPooling = False,
        attention_type: keywords.AttentionType = "din_attention",
        attention_hidden_units: keywords.AttentionHiddenUnits = [80, 40],
        attention_activation: keywords.AttentionActivation = "Dice",
        attention_dropout: keywords.AttentionDropout = 0,
        use_attention_softmax: keywords.UseAttentionSoftmax = True,
        gru_hidden_size: keywords.GruHiddenSize = None,
        recurrence_backend: keywords.RecurrenceBackend = "auto",
        **kwargs: Any,
    ) -> None:
        check_keywords(GRUAttention.__init__, locals())
        check_backend(recurrence_backend)
        super().__init__(feature_map, HistoryFields(target_field, sequence_field), model_id=model_id, **kwargs)
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
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
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
