"""DIEN of torch-rechub: packed `nn.GRU`, bilinear attention, auxiliary loss by inner products."""

from typing import Any

import torch
from torch import Tensor, nn

from ..made import Sizes
from ..systems import System, Work


def build(sizes: Sizes, work: Work) -> System:
    """Its weight decay is off, its Adam torch's fused one.

    It has a GRU for every history feature. For one of the size of the others a behaviour has one id here instead of
    two, with an embedding as large as theirs together, in a table that has as many numbers as theirs together.
    """
    from torch_rechub.basic.features import SequenceFeature, SparseFeature  # pyright: ignore[reportMissingImports]
    from torch_rechub.models.ranking import DIEN  # pyright: ignore[reportMissingImports]

    size = sizes.behaviour
    behaviours = (sizes.items + sizes.categories) * sizes.embedding // size

    def history(name: str) -> Any:
        return SequenceFeature(name, behaviours, size, pooling="concat", shared_with="item_id", padding_idx=0)

    model = DIEN(
        features=[SparseFeature("context", sizes.contexts, sizes.embedding)],
        history_features=[history("item_history")],
        neg_history_features=[history("neg_item_history")],
        target_features=[SparseFeature("item_id", behaviours, size, padding_idx=0)],
        mlp_params={"dims": list(sizes.mlp_units)},
        alpha=1.0,
    )
    criterion = nn.BCELoss()

    def prepare(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        x = {"context": batch["context"]}
        for name in ("item_id", "item_history", "neg_item_history"):
            x[name] = torch.where(batch[name] > 0, 1 + batch[name] % (behaviours - 1), 0)
        return x, batch["label"]

    def loss(batch: tuple[dict[str, Tensor], Tensor]) -> Tensor:
        x, y = batch
        predicted, auxiliary = model(x)
        return criterion(predicted, y) + auxiliary

    return System(
        model,
        torch.optim.Adam(model.parameters(), lr=1e-3, fused=True),
        prepare,
        loss,
        lambda batch: model(batch[0])[0],
    )
