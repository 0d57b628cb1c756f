"""BaseModel of DIEN's experiments (Zhou et al., AAAI 2019, section 4.2).

It consists of embeddings, sum pooling and an MLP.
"""

from typing import Any

from torch import Tensor

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import HistoryFields


class EmbeddingMLP(HistoryModel):
    """Model MLP([Σe_t, e_a, profile]): the history is the sum of its behaviours.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        enable_target_product: adds e_a * Σe_t to the MLP's input, like DIEN's `enable_sum_pooling`.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "EmbeddingMLP",
        target_field: own.TargetField = [("item_id", "cate_id")],
        sequence_field: own.SequenceField = [("item_history", "cate_history")],
        enable_target_product: own.EnableTargetProduct = False,
        **kwargs: Any,
    ) -> None:
        check_keywords(EmbeddingMLP.__init__, locals())
        super().__init__(feature_map, HistoryFields(target_field, sequence_field), model_id=model_id, **kwargs)
        self.enable_target_product = enable_target_product
        embeddings = self.embedding_layer
        self.finish(embeddings.sum_pooling_size() if enable_target_product else sum(embeddings.behaviour_sizes))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        pooled = [
            history.sum_pooling() if self.enable_target_product else history.packing.sum(history.behaviours)
            for history in histories
        ]
        return self.score(pooled, profile)
