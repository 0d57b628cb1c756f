"""DeepFM (Guo et al., IJCAI 2017, arXiv 1703.04247).

The paper is "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction".
"""

from typing import Any

from fuxictr.pytorch.layers import FactorizationMachine
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts.baseline import PooledMLPModel
from model_zoo.parts.pooled import check_equal
from model_zoo.parts.repeated_rows import RepeatedRows


class DeepFM(PooledMLPModel):
    """Model σ(y_FM + y_DNN), eq. (1): a factorization machine and an MLP.

    Both parts read the same embeddings. Every keyword of the zoo's DeepFM keeps its meaning and default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, a sequence is not pooled, or fields have unequal sizes.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "DeepFM",
        **kwargs: Any,
    ) -> None:
        check_keywords(DeepFM.__init__, locals())
        super().__init__(feature_map, model_id=model_id, **kwargs)
        check_equal(self.sizes)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = self.make_mlp(sum(self.sizes))
        self.finish(linear=self.fm)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        fields = self.embedding_layer(X)
        logits = self.fm(X, fields) + self.mlp(fields.flatten(start_dim=1))
        return {"y_pred": self.output_activation(logits)}

    def export_module(self, form: str) -> nn.Module:
        """Return a module for `torch.export`: the forward pass, for every form."""
        return RepeatedRows(self)
