"""`mini_batch_aware` regularisation, compared with a transcription of DIN's (5).

Tables are dense and sparse.
"""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import make_batch
from made_models import make_model, tables_of
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dien_fuxictr.experiment.training.mini_batch_aware import MiniBatchAwareRegularizer, take_regularizer
from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.weight_store import WeightStore

BATCHES = [make_batch([3, 6, 0, 2, 1, 4, 5, 3], seed=seed) for seed in range(4)]
ITEM_IDS = ["item_id", "item_history", "neg_item_history"]


def by_hand(model: BaseModel, batch: dict[str, Tensor], terms: list[tuple[int, float]]) -> float:
    """Return DIN's (5): λ/p times the mean over samples of Σ |w|^p / f over ids.

    Weights of numeric features are distributed over the samples.
    """
    layers = tables_of(model)
    tables = {
        "item_id": ITEM_IDS,
        "cate_id": ["cate_id", "cate_history", "neg_cate_history"],
        "query": ["query", "query_history"],
        "session_history": ["session_history"],
        "day_history": ["day_history"],
    }
    samples = sum(len(each["label"]) for each in BATCHES)
    total = 0.0
    for p, weight in terms:
        for table, names in tables.items():
            norms = (np.abs(layers[table].weight.detach().double().numpy()) ** p).sum(axis=1)
            seen = Counter(i for each in BATCHES for name in names for i in each[name].flatten().tolist())
            looked_up = [i for name in names for i in batch[name].flatten().tolist() if i != 0]
            total += weight / p / len(batch["label"]) * sum(norms[i] / seen[i] for i in looked_up)
        total += weight / p / samples * (layers["price"].weight.detach().double().abs() ** p).sum().item()
    return total


def regularized(regularizer: Any) -> tuple[BaseModel, Any]:
    """Return a model, and its regularizer removed from it."""
    model = make_model("EmbeddingMLP", dnn_hidden_units=[4], batch_norm=False, embedding_regularizer=regularizer)
    return model.train(), take_regularizer(model)


REGULARIZERS: list[tuple[Any, list[tuple[int, float]]]] = [
    (0.3, [(2, 0.3)]),
    ("l1(0.2)", [(1, 0.2)]),
    ("l1_l2(0.2,0.3)", [(1, 0.2), (2, 0.3)]),
]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("regularizer", "terms"), REGULARIZERS)
def test_rows_are_regularised_where_they_are_looked_up(
    sparse: bool, regularizer: Any, terms: list[tuple[int, float]]
) -> None:
    (model, regularizer), (bare, _) = regularized(regularizer), regularized(regularizer)
    if sparse:
        update_sparsely(WeightStore(model))
    callback = MiniBatchAwareRegularizer(model, regularizer)
    callback.before_training(BATCHES)
    batch = callback.before_step(BATCHES[1])
    losses = []
    for each in (model, bare):
        loss = each.compute_loss(each.forward(batch), each.get_labels(batch))
        loss.backward()
        losses.append(loss.item())
    assert losses[0] - losses[1] == pytest.approx(by_hand(model, batch, terms), rel=1e-4)
    # The gradient of a row is λ/B n/f w (or its sign); rows whose id is not in the batch have none.
    here, everywhere = (
        torch.bincount(torch.cat([each[name].flatten() for each in some for name in ITEM_IDS]), minlength=30)
        for some in ([batch], BATCHES)
    )
    share = (here / everywhere.clamp(min=1)).unsqueeze(1) / len(batch["label"])
    share[0] = 0
    table = tables_of(model)["item_id"].weight
    other = tables_of(bare)["item_id"].weight
    assert table.grad is not None and other.grad is not None and table.grad.is_sparse == sparse
    pull = sum(weight * (table if p == 2 else table.sign()) for p, weight in terms) * share
    torch.testing.assert_close(table.grad.to_dense() - other.grad, pull.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("regularizer", "terms"), REGULARIZERS)
def test_over_an_epoch_each_row_that_occurs_is_regularised_once(
    regularizer: Any, terms: list[tuple[int, float]]
) -> None:
    """Weighed by their samples, whatever the batches' sizes."""
    model, regularizer = regularized(regularizer)
    callback = MiniBatchAwareRegularizer(model, regularizer)
    batches = [make_batch([3] * rows, seed=rows) for rows in (1, 4, 7)]
    callback.before_training(batches)
    total = 0.0
    for batch in batches:
        callback.before_step(batch)
        total += len(batch["label"]) * callback.loss().item()
    layers, expected = tables_of(model), 0.0
    for p, weight in terms:
        for table, names in {"item_id": ITEM_IDS, "query": ["query", "query_history"]}.items():
            rows = torch.cat([batch[name].flatten() for batch in batches for name in names]).unique()
            expected += weight / p * (layers[table].weight[rows[rows > 0]].abs() ** p).sum().item()
    for name in ("item_id", "query"):
        layers[name].weight.data.zero_()
    for batch in batches:
        callback.before_step(batch)
        total -= len(batch["label"]) * callback.loss().item()
    assert total == pytest.approx(expected, rel=1e-4)


def test_counting_leaves_the_generators_as_they_were() -> None:
    model, regularizer = regularized(0.3)
    callback = MiniBatchAwareRegularizer(model, regularizer)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    callback.before_training(DataLoader(Rows(), batch_size=None, shuffle=True))
    assert callback.samples == sum(len(batch["label"]) for batch in BATCHES)
    assert torch.equal(torch.get_rng_state(), before)


class Rows(Dataset[dict[str, Tensor]]):
    """Batches, one by one."""

    def __len__(self) -> int:
        return len(BATCHES)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return BATCHES[place]


def test_a_batch_without_ids_is_not_regularised() -> None:
    model, regularizer = regularized(0.3)
    callback = MiniBatchAwareRegularizer(model, regularizer)
    callback.before_training(BATCHES)
    zeros = {name: torch.zeros_like(x) for name, x in make_batch([2, 1]).items()}
    with torch.no_grad():
        tables_of(model)["price"].weight.zero_()
    callback.before_step(zeros)
    assert callback.loss() == 0
