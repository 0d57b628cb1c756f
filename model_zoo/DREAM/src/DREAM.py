"""DREAM, a dynamic recurrent model (Yu et al., SIGIR 2016).

The paper is "A Dynamic Recurrent Model for Next Basket Recommendation".
"""

from typing import Any

from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import HistoryModel
from model_zoo.parts.history import History, HistoryFields
from model_zoo.parts.segments import segments_of


class DREAM(HistoryModel):
    """Model in which an RNN reads a user's baskets, and its last state is the user.

    With b_k the pooled behaviours of basket k, h_k = tanh(C b_k + R h_{k-1} + c), and the MLP gets h, h * e_a and the
    profile. The paper scores only by the inner product <h, e_a>, and its states are sigmoids. The recurrences are equal
    up to shift and scale of the states, since sigmoid(2x) = (tanh(x) + 1) / 2.

    Args:
        feature_map: the zoo's FeatureMap.
        target_field, sequence_field: target item and behaviours; fields as in DIEN.
        time_field: the builders' `day_history`, one per sequence: a basket ends where the token changes.
        basket_pooling: pooling of a basket's behaviours, `max` or `mean`.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DREAM",
        target_field: own.TargetField = [("item_id", "cate_id")],
        sequence_field: own.SequenceField = [("item_history", "cate_history")],
        time_field: own.TimeField = "day_history",
        basket_pooling: own.BasketPooling = "max",
        **kwargs: Any,
    ) -> None:
        check_keywords(DREAM.__init__, locals())
        fields = HistoryFields(target_field, sequence_field, times=time_field)
        super().__init__(feature_map, fields, model_id=model_id, **kwargs)
        self.basket_pooling = basket_pooling
        self.rnns = nn.ModuleList(
            nn.RNN(behaviour, target, batch_first=True)
            for behaviour, target in zip(
                self.embedding_layer.behaviour_sizes, self.embedding_layer.target_sizes, strict=True
            )
        )
        self.finish(2 * sum(self.embedding_layer.target_sizes))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        histories, profile = self.embedding_layer(self.get_inputs(inputs))
        parts = []
        for history, rnn in zip(histories, self.rnns, strict=True):
            user = self.user(history, rnn)
            parts += [user, user * history.target]
        return self.score(parts, profile)

    def user(self, history: History, rnn: nn.Module) -> Tensor:
        """Return the state after the last basket, (B, D_a); zero without baskets."""
        behaviours, mask = history.padded()
        baskets = segments_of(history.packing.pad(history.times), mask)
        pool = baskets.max if self.basket_pooling == "max" else baskets.mean
        states, _ = rnn(pool(behaviours, mask))
        count = baskets.mask.sum(dim=1)
        last = (count - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, states.size(-1))
        return states.gather(1, last).squeeze(1).masked_fill(count.unsqueeze(-1) == 0, 0)
