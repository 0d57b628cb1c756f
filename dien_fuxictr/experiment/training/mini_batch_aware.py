"""`embedding_regularization: mini_batch_aware`: each row is regularised in the steps that look it up."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import get_regularizer
from torch import Tensor, nn

from .callbacks import Callback
from .checkpoint import rng_state, set_rng_state


def take_regularizer(model: BaseModel) -> str | float | None:
    """The model's `embedding_regularizer`, which it then no longer has."""
    regularizer, model._embedding_regularizer = model._embedding_regularizer, None
    return regularizer


class MiniBatchAwareRegularizer(Callback):
    """Adds to the mean loss of a batch of B samples, for each embedding table,

        λ/p 1/B Σ_r n_r / f_r |w_r|_p^p

    with n_r how often the batch has the id r, and f_r how often all the training data have it, in all features that
    share the table; padding is no id. It is the mini-batch aware regularisation of DIN (Zhou et al., KDD 2018,
    equations (4) and (5)), with λ against the sum of the samples' losses: over an epoch every row that occurs
    has λ/p |w_r|_p^p once, a prior that is the same for tables, batches and data of any size. The zoo's sum over all
    rows takes from a row in every step, however rarely the loss gives to it. Weights of the embedding layer
    beside the tables, such as those of numeric features, are shared out over the samples.

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
        self.frequencies: dict[nn.Embedding, Tensor] = {}
        self.samples = 0
        self._batch: dict[str, Tensor] = {}
        of_the_rest = model.regularization_loss
        model.regularization_loss = lambda: of_the_rest() + self.loss()

    def before_training(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Count ids and samples."""
        fields, device = self.model.feature_map.features, self.model.device
        sizes = {table: max(fields[name]["vocab_size"] for name in names) for table, names in self.features.items()}
        self.frequencies = {table: torch.zeros(size, dtype=torch.int64, device=device) for table, size in sizes.items()}
        self.samples = 0
        state = rng_state()
        for batch in batches:
            self.samples += self._rows(batch)
            for table, ids in self._ids(batch):
                self.frequencies[table] += torch.bincount(ids, minlength=sizes[table])
        set_rng_state(state)

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Remember it for the loss."""
        self._batch = batch
        return batch

    def loss(self) -> Any:
        """Of the batch that the step takes: a scalar, or 0."""
        total: Any = sum(weight / p * other.norm(p) ** p for other in self.others for p, weight in self.terms)
        total = total / self.samples
        for table, ids in self._ids(self._batch):
            rows, counts = ids.unique(return_counts=True)
            weights = table(rows)
            shares = (counts / self.frequencies[table][rows]).to(weights.dtype) / self._rows(self._batch)
            total = total + sum(weight / p * (weights.abs() ** p).sum(dim=1) @ shares for p, weight in self.terms)
        return total

    def _rows(self, batch: dict[str, Tensor]) -> int:
        return len(batch[self.model.feature_map.labels[0]])

    def _ids(self, batch: dict[str, Tensor]) -> Iterator[tuple[nn.Embedding, Tensor]]:
        """Of each table that the batch looks anything up in: (number of ids,)."""
        X = self.model.get_inputs(batch)
        for table, names in self.features.items():
            ids = torch.cat([X[name].flatten().long() for name in names if name in X])
            ids = ids[ids != (-1 if table.padding_idx is None else table.padding_idx)]
            if len(ids):
                yield table, ids
