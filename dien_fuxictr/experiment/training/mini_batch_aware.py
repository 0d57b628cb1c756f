"""`embedding_regularization: mini_batch_aware`: regularise the batch's rows only."""

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
    """Return the model's `embedding_regularizer`, and remove it from the model."""
    regularizer, model._embedding_regularizer = model._embedding_regularizer, None
    return regularizer


class MiniBatchAwareRegularizer(Callback):
    """Regularizer of the embedding rows that a batch of B samples looks up.

    For each embedding table it adds to the mean loss

            λ/p 1/B Σ_r n_r / f_r |w_r|_p^p

    with n_r the number of occurrences of id r in the batch, and f_r in all training data, in all features that share
    the table; padding is not an id. This is the mini-batch aware regularisation of DIN (Zhou et al., KDD 2018,
    equations (4) and (5)), with λ relative to the sum of the samples' losses: over an epoch every row that occurs
    contributes λ/p |w_r|_p^p once, a prior that does not depend on the size of tables, batches and data. The zoo's sum
    over all rows reduces a row in every step, however rarely the loss trains it. Weights of the embedding layer outside
    of tables, such as those of numeric features, are distributed over the samples.

    Args:
        model: model without its own embedding regularizer; the sum is added to its `regularization_loss`.
        regularizer: regularizer in the zoo's form.
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
        """Keep the batch for the loss."""
        self._batch = batch
        return batch

    def loss(self) -> Any:
        """Return the loss of the step's batch: a scalar, or 0."""
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
        """Yield each table that the batch looks up, with the ids (number of ids,)."""
        X = self.model.get_inputs(batch)
        for table, names in self.features.items():
            ids = torch.cat([X[name].flatten().long() for name in names if name in X])
            ids = ids[ids != (-1 if table.padding_idx is None else table.padding_idx)]
            if len(ids):
                yield table, ids
