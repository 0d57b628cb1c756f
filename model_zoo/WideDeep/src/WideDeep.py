"""Wide & Deep learning (Cheng et al., DLRS 2016, arXiv 1606.07792)."""

from typing import Any

from fuxictr.pytorch.layers import LogisticRegression
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts.baseline import PooledMLPModel
from model_zoo.parts.repeated_rows import RepeatedRows


class WideDeep(PooledMLPModel):
    """Model σ(w·x + MLP(v)), eq. (3): x are the ids, v their embeddings.

    The wide part of a history is the sum of its ids' weights. Every keyword of the zoo's WideDeep keeps its meaning and
    default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, or a sequence is not pooled.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "WideDeep",
        **kwargs: Any,
    ) -> None:
        check_keywords(WideDeep.__init__, locals())
        super().__init__(feature_map, model_id=model_id, **kwargs)
        self.lr_layer = LogisticRegression(feature_map, use_bias=False)
        self.dnn = self.make_mlp(sum(self.sizes))
        self.finish(linear=self.lr_layer)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        deep = self.dnn(self.embedding_layer(X, flatten_emb=True))
        return {"y_pred": self.output_activation(self.lr_layer(X) + deep)}

    def export_module(self, form: str) -> nn.Module:
        """Return a module for `torch.export`: the forward pass, for every form."""
        return RepeatedRows(self)
