"""`embedding_regularization: batch`: what a batch looks up is regularised, not whole tables."""

from typing import Any

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_regularizer
from torch import Tensor, nn

from .technique import Technique


def take_regularizer(model: BaseModel) -> str | float | None:
    """The model's `embedding_regularizer`, which it then no longer has."""
    regularizer, model._embedding_regularizer = model._embedding_regularizer, None
    return regularizer


class BatchRegularizer(Technique):
    """Adds to the loss, for each embedding table, λ/p times the mean of |e|_p^p over its ids in the batch:

        λ/p Σ_r n_r / N |w_r|_p^p

    with n_r how often the batch has the id r, in all features that share the table, and N the sum of n_r; padding is no
    id. The zoo's sum over all rows, λ/p Σ_r |w_r|_p^p, grows with the table and takes from a row in every step, however
    rarely the loss gives to it. Here what is taken from a row in an epoch follows what the row gives to the loss, so
    that one λ fits tables, batches and histories of any size. Weights of the embedding layer beside the tables, such as
    those of numeric features, count whole, as in the zoo.

    Args:
        model: without an embedding regularizer of its own; `regularization_loss` gains the sum.
        regularizer: in the zoo's form.
    """

    def __init__(self, model: BaseModel, regularizer: str | float | None) -> None:
        self.terms = get_regularizer(regularizer)
        self.model = model
        self.features: dict[nn.Embedding, list[str]] = {}
        layers = [layer for layer in model.modules() if type(layer) is FeatureEmbeddingDict]
        for layer in layers:
            for name, embedding in layer.embedding_layers.items():
                for table in embedding.modules():
                    if isinstance(table, nn.Embedding) and table.weight.requires_grad:
                        self.features.setdefault(table, []).append(name)
        tables = {id(table.weight) for table in self.features}
        parameters = {id(p): p for layer in layers for p in layer.parameters() if p.requires_grad}
        self.others = [parameter for key, parameter in parameters.items() if key not in tables]
        self._batch: dict[str, Tensor] = {}
        of_the_rest = model.regularization_loss
        model.regularization_loss = lambda: of_the_rest() + self.loss()

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remember it for the loss."""
        self._batch = batch
        return batch

    def loss(self) -> Any:
        """Of the batch that the step takes: a scalar, or 0."""
        X = self.model.get_inputs(self._batch)
        total: Any = sum(weight / p * other.norm(p) ** p for other in self.others for p, weight in self.terms)
        for table, names in self.features.items():
            total = total + self._of_table(table, torch.cat([X[name].flatten().long() for name in names if name in X]))
        return total

    def _of_table(self, table: nn.Embedding, ids: Tensor) -> Any:
        rows, counts = ids[ids != (-1 if table.padding_idx is None else table.padding_idx)].unique(return_counts=True)
        if not len(rows):
            return 0
        weights = table(rows)
        return sum(
            weight / p * (weights.abs() ** p).sum(dim=1) @ counts.to(weights.dtype) / counts.sum()
            for p, weight in self.terms
        )
