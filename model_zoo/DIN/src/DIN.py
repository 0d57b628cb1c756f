"""Deep Interest Network (Zhou et al., KDD 2018, arXiv 1706.06978)."""

from typing import Any

from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields


class DIN(HistoryModel):
    """Model that weights the behaviours by the target: v_U(A) = Σ_t a(e_t, e_a) e_t.

    This is eq. (3), with a an MLP on [q, h, q-h, q*h]. Every keyword of the zoo's DIN keeps its meaning and default;
    `enable_sum_pooling` is new. The attention unit's Dice leaves padding out of its statistics.

    Args:
        feature_map: the zoo's FeatureMap.
        din_target_field, din_sequence_field: target item and behaviours; fields as in DIEN.
        attention_hidden_units, attention_hidden_activations, attention_output_activation, attention_dropout: settings
        of a.
        din_use_softmax: makes the weights sum to 1 over the real steps; the paper does not, which keeps the intensity
            of an interest.
        enable_sum_pooling: adds Σe_t and e_a * Σe_t to the MLP's input, as in DIEN.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DIN",
        dnn_hidden_units: keywords.DnnHiddenUnits = [512, 128, 64],
        attention_hidden_units: keywords.AttentionHiddenUnits = [64],
        attention_hidden_activations: own.AttentionHiddenActivations = "Dice",
        attention_output_activation: own.AttentionOutputActivation = None,
        attention_dropout: keywords.AttentionDropout = 0,
        embedding_dim: keywords.EmbeddingDim = 10,
        batch_norm: keywords.BatchNorm = False,
        din_target_field: own.DinTargetField = [("item_id", "cate_id")],
        din_sequence_field: own.DinSequenceField = [("click_history", "cate_history")],
        din_use_softmax: own.DinUseSoftmax = False,
        enable_sum_pooling: keywords.EnableSumPooling = False,
        **kwargs: Any,
    ) -> None:
        check_keywords(DIN.__init__, locals())
        super().__init__(
            feature_map,
            HistoryFields(din_target_field, din_sequence_field, prefix="din_"),
            model_id=model_id,
            dnn_hidden_units=dnn_hidden_units,
            embedding_dim=embedding_dim,
            batch_norm=batch_norm,
            **kwargs,
        )
        self.enable_sum_pooling = enable_sum_pooling
        target_sizes, behaviour_sizes = self.embedding_layer.target_sizes, self.embedding_layer.behaviour_sizes
        self.attention_layers = nn.ModuleList(
            InterestAttention(
                behaviour,
                target,
                "din_attention",
                attention_hidden_units,
                attention_hidden_activations,
                attention_dropout,
                din_use_softmax,
                attention_output_activation,
            )
            for behaviour, target in zip(behaviour_sizes, target_sizes, strict=True)
        )
        self.finish(sum(behaviour_sizes) + (self.embedding_layer.sum_pooling_size() if enable_sum_pooling else 0))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for history, attend in zip(histories, self.attention_layers, strict=True):
            weights = attend(history.behaviours, history.target, history.packing)
            parts.append(history.packing.sum(weights.unsqueeze(1) * history.behaviours))
            if self.enable_sum_pooling:
                parts.append(history.sum_pooling())
        return self.score(parts, profile)
