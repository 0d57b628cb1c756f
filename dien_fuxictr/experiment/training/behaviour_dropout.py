"""`behaviour_dropout`: histories lose some of their behaviours in training."""

import torch
from fuxictr.features import FeatureMap
from torch import Tensor

from .technique import Technique


class BehaviourDropout(Technique):
    """Leaves each behaviour of a history out with a probability, anew in every step; the others close up.

    A row of a batch loses the same places in all its sequences, so that the fields of a behaviour go together. A row
    where one of them would lose all it has keeps everything. The target stays.

    Args:
        feature_map: of the batches.
        rate: the probability.
    """

    def __init__(self, feature_map: FeatureMap, rate: float) -> None:
        specs = feature_map.features.items()
        # The zoo pads in front where an entry says nothing.
        self.behind = {n: spec.get("padding") == "post" for n, spec in specs if spec["type"] == "sequence"}
        self.rate = rate

    def before_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The shorter histories; as wide as they were."""
        histories = {name: batch[name] for name in self.behind if name in batch}
        if not histories:
            return batch
        rows, width = len(next(iter(histories.values()))), max(ids.size(1) for ids in histories.values())
        dropped = torch.rand(rows, width) < self.rate
        for ids in histories.values():
            real, gone = (ids > 0).cpu(), dropped[:, : ids.size(1)]
            dropped = dropped & ~(real.any(dim=1) & ~(real & ~gone).any(dim=1)).unsqueeze(1)
        return batch | {name: self._without(dropped, ids, self.behind[name]) for name, ids in histories.items()}

    @staticmethod
    def _without(dropped: Tensor, ids: Tensor, padding_behind: bool) -> Tensor:
        gone = dropped[:, : ids.size(1)].to(ids.device)
        order = (gone if padding_behind else ~gone).to(torch.uint8).argsort(dim=1, stable=True)
        return ids.masked_fill(gone, 0).gather(1, order)
