"""Factorization Machines (Rendle, ICDM 2010)."""

from typing import Any

from fuxictr.pytorch.layers import FactorizationMachine
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.validation import check_keywords
from model_zoo.parts import baseline_keywords as own
from model_zoo.parts.baseline import PooledModel
from model_zoo.parts.pooled import check_equal
from model_zoo.parts.repeated_rows import RepeatedRows


class FM(PooledModel):
    """Model σ(w_0 + Σ_i w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j), eq. (1).

    The field of a history is its pooled embedding. Every keyword of the zoo's FM keeps its meaning and default.

    Args:
        feature_map: the zoo's FeatureMap; feature encoders pool its sequences.
        the keywords: see `DIEN.src.keywords` and `parts.baseline_keywords`.

    Raises:
        ValueError: the value of a keyword is not allowed, a sequence is not pooled, or fields have unequal sizes.
    """

    def __init__(
        self,
        feature_map: Any,
        model_id: keywords.ModelId = "FM",
        regularizer: own.Regularizer = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(FM.__init__, locals())
        for keyword in ("embedding_regularizer", "net_regularizer"):
            if keyword in kwargs:
                raise ValueError(f"{keyword}={kwargs[keyword]!r} is not allowed; use regularizer")
        super().__init__(
            feature_map,
            model_id=model_id,
            embedding_regularizer=regularizer,
            net_regularizer=regularizer,
            **kwargs,
        )
        check_equal(self.sizes)
        self.fm = FactorizationMachine(feature_map)
        self.finish(linear=self.fm)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Score a batch of the zoo's loaders; return `y_pred` (B, 1)."""
        X = self.get_inputs(inputs)
        return {"y_pred": self.output_activation(self.fm(X, self.embedding_layer(X)))}

    def export_module(self, form: str) -> nn.Module:
        """Return a module for `torch.export`: the forward pass, for every form."""
        return RepeatedRows(self)
