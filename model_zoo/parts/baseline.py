"""Base classes of the models compared with DIEN: embeddings first, an MLP last."""

from collections.abc import Iterable
from typing import Any

import torch
from fuxictr.pytorch.layers import FeatureEmbedding
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from model_zoo.DIEN.src import keywords
from model_zoo.DIEN.src.keywords import Rate
from model_zoo.DIEN.src.validation import check_keywords, check_layers

from . import baseline_keywords as own
from .history import HistoryEmbedding, HistoryFields
from .pooled import pooled_sizes, start_linear_weights_small
from .score_mlp import ScoreMLP


class HistoryModel(BaseModel):
    """Base of a model that reads behaviour sequences step by step.

    The constructor of a subclass calls this one, builds the layers of the model, and calls `finish` last: the initial
    weights are drawn in this order.

    Args:
        feature_map: the zoo's FeatureMap.
        fields: the features of targets, behaviours and time tokens.

    Raises:
        ValueError: the value of a keyword is not allowed, or fields do not match the data set.
    """

    def __init__(
        self,
        feature_map: Any,
        fields: HistoryFields,
        /,
        *,
        model_id: keywords.ModelId,
        gpu: keywords.Gpu = -1,
        dnn_hidden_units: keywords.DnnHiddenUnits = [200, 80],
        dnn_activations: keywords.DnnActivations = "ReLU",
        learning_rate: keywords.LearningRate = 1e-3,
        embedding_dim: keywords.EmbeddingDim = 16,
        net_dropout: keywords.NetDropout | list[Rate] = 0,
        batch_norm: keywords.BatchNorm = True,
        embedding_regularizer: keywords.EmbeddingRegularizer = None,
        net_regularizer: keywords.NetRegularizer = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(HistoryModel.__init__, locals())
        check_layers("dnn_activations", dnn_activations, dnn_hidden_units)
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        self.embedding_layer = HistoryEmbedding(feature_map, embedding_dim, fields)
        self._mlp = dnn_hidden_units, dnn_activations, net_dropout, batch_norm
        self._training = kwargs["optimizer"], kwargs["loss"], learning_rate

    def finish(self, part_size: int) -> None:
        """Add the MLP, draw the initial weights, and create the optimizer.

        Args:
            part_size: total size of the parts that `score` gets, without the profile.
        """
        self.dnn = ScoreMLP(part_size + self.embedding_layer.profile_size, *self._mlp)
        self.compile(*self._training)
        self.reset_parameters()
        self.model_to_device()

    def score(self, parts: Iterable[Tensor], profile: Tensor) -> dict[str, Tensor]:
        """Return `y_pred` (B, 1) of the parts, each (B, size), and the profile (B, P)."""
        return {"y_pred": self.output_activation(self.dnn(torch.cat([*parts, profile], dim=-1)))}


class PooledModel(BaseModel):
    """Base of a model with one embedding per feature, whose sequences are pooled.

    The constructor of a subclass calls this one, builds the layers of the model, and calls `finish` last: the initial
    weights are drawn in this order.

    Args:
        feature_map: the zoo's FeatureMap.

    Attributes:
        sizes: the embedding size of each field.

    Raises:
        ValueError: the value of a keyword is not allowed, or a sequence is not pooled.
    """

    def __init__(
        self,
        feature_map: Any,
        *,
        model_id: keywords.ModelId,
        gpu: keywords.Gpu = -1,
        learning_rate: keywords.LearningRate = 1e-3,
        embedding_dim: keywords.EmbeddingDim = 10,
        embedding_regularizer: keywords.EmbeddingRegularizer = None,
        net_regularizer: keywords.NetRegularizer = None,
        **kwargs: Any,
    ) -> None:
        check_keywords(PooledModel.__init__, locals())
        super().__init__(
            feature_map,
            model_id=model_id,
            gpu=gpu,
            embedding_regularizer=embedding_regularizer,
            net_regularizer=net_regularizer,
            **kwargs,
        )
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.sizes = pooled_sizes(feature_map, self.embedding_layer)
        self._training = kwargs["optimizer"], kwargs["loss"], learning_rate

    def finish(self, linear: nn.Module | None = None) -> None:
        """Draw the initial weights, and create the optimizer.

        Args:
            linear: a linear part of the model, whose initial weights are small.
        """
        self.compile(*self._training)
        self.reset_parameters()
        if linear is not None:
            start_linear_weights_small(linear)
        self.model_to_device()


class PooledMLPModel(PooledModel):
    """Base of a `PooledModel` that has an MLP.

    Args:
        feature_map: the zoo's FeatureMap.
    """

    def __init__(
        self,
        feature_map: Any,
        *,
        model_id: keywords.ModelId,
        hidden_units: own.HiddenUnits = [64, 64, 64],
        hidden_activations: own.HiddenActivations = "ReLU",
        net_dropout: keywords.NetDropout | list[Rate] = 0,
        batch_norm: keywords.BatchNorm = False,
        **kwargs: Any,
    ) -> None:
        check_keywords(PooledMLPModel.__init__, locals())
        check_layers("hidden_activations", hidden_activations, hidden_units)
        super().__init__(feature_map, model_id=model_id, **kwargs)
        self._mlp = hidden_units, hidden_activations, net_dropout, batch_norm

    def make_mlp(self, input_size: int) -> ScoreMLP:
        """Build the MLP from the keywords of the constructor."""
        return ScoreMLP(input_size, *self._mlp)
