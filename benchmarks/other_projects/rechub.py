"""DIEN of torch-rechub: packed `nn.GRU`, bilinear attention, inner-product loss."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..synthetic_batches import HISTORIES, NEGATIVES, Sizes
from ..systems import System, Work

Prepared = tuple[dict[str, Tensor], Tensor]


def build(sizes: Sizes, work: Work) -> System:
    """Build the system, with dropout in its MLP, without weight decay and with torch's fused Adam.

    It has a GRU for every history feature. For one of the size of the others a behaviour has one id here instead of
    two, with an embedding as large as theirs together, in a table that has as many numbers as theirs together.
    """
    size = sizes.behaviour
    behaviours = (sizes.items + sizes.categories) * sizes.embedding // size
    system = _build(sizes, {"item_id": behaviours}, size, work.dropout)

    def prepare(batch: dict[str, Tensor]) -> Prepared:
        x, y = system.prepare(batch)
        for name in ("item_id", "item_history", "neg_item_history"):
            x[name] = torch.where(x[name] > 0, 1 + x[name] % (behaviours - 1), 0)
        return x, y

    return replace(system, prepare=prepare)


def build_by_field(sizes: Sizes) -> System:
    """Build the system of its documentation: item and category with a GRU each."""
    return _build(sizes, {"item_id": sizes.items, "cate_id": sizes.categories}, sizes.embedding)


def _build(sizes: Sizes, targets: dict[str, int], size: int, dropout: float = 0) -> System:
    from torch_rechub.basic.features import SequenceFeature, SparseFeature  # pyright: ignore[reportMissingImports]
    from torch_rechub.models.ranking import DIEN  # pyright: ignore[reportMissingImports]

    def histories(names: dict[str, str]) -> list[Any]:
        return [
            SequenceFeature(name, targets[root], size, pooling="concat", shared_with=root, padding_idx=0)
            for name, root in names.items()
            if root in targets
        ]

    model = DIEN(
        features=[SparseFeature("context", sizes.contexts, sizes.embedding)],
        history_features=histories(HISTORIES),
        neg_history_features=histories(NEGATIVES),
        target_features=[SparseFeature(name, count, size, padding_idx=0) for name, count in targets.items()],
        mlp_params={"dims": list(sizes.mlp_units), "dropout": dropout},
        alpha=1.0,
    )
    criterion = nn.BCELoss()
    names = ["context", *targets, *(name for name, root in (HISTORIES | NEGATIVES).items() if root in targets)]

    def loss(batch: Prepared) -> Tensor:
        x, y = batch
        predicted, auxiliary = model(x)
        return criterion(predicted, y) + auxiliary

    return System(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True),
        lambda batch: ({name: batch[name] for name in names}, batch["label"]),
        loss,
        lambda batch: model(batch[0])[0],
    )
