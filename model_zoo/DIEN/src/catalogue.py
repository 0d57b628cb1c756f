"""The distinct behaviours of the training histories, and draws from them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def read_catalogue(data_dir: str | Path, fields: Sequence[str], oov: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Reads the catalogue that lies beside the feature map of a data set.

    Args:
        data_dir: the folder of feature_map.json. fields: sequence features that make up a behaviour.
        oov: the id of each field that stands for unknown values; behaviours with it are left out.

    Returns:
        ids: (F, N), distinct behaviours in ascending order. counts: (N,) int64, how often each occurs.

    Raises:
        ValueError: no catalogue there has these fields.
    """
    folder = Path(data_dir) / "behaviour_catalogue"
    for file in sorted(folder.glob("*.npz")):
        with np.load(file) as columns:
            if set(fields) <= set(columns.files):
                ids = np.stack([columns[field] for field in fields]).astype(np.int64)
                counts = columns["count"].astype(np.int64)
                break
    else:
        raise ValueError(
            f"{folder}: no behaviour catalogue of {', '.join(fields)}, from which aux_negatives: "
            "popularity, uniform, category and mixed draw; rebuild the data set, or use aux_negatives: in_batch"
        )
    known = (ids[0] > 0) & (ids != np.array(oov)[:, None]).all(axis=0)
    ids, owner = np.unique(ids[:, known], axis=1, return_inverse=True)
    occurrences = np.bincount(owner.ravel(), weights=counts[known]).astype(np.int64)
    return torch.from_numpy(ids), torch.from_numpy(occurrences)


class Catalogue(nn.Module):
    """The distinct behaviours of the training histories, drawn uniformly or as often as they occurred.

    The authors' program draws from all reviews, those of the test set among them.

    Args:
        ids: (F, N), N distinct behaviours. weights: (N,), how often each is drawn.
    """

    def __init__(self, ids: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.ids: Tensor
        self.cumulative: Tensor
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("cumulative", weights.double().cumsum(0), persistent=False)

    def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Ids (F, *shape), and whether there was one to draw."""
        size = self.cumulative.numel()
        if size == 0:
            return none(self.ids, shape)
        uniform = torch.rand(shape, device=self.ids.device, dtype=torch.float64)
        place = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1], right=True).clamp(max=size - 1)
        return self.ids[:, place], torch.ones(shape, dtype=torch.bool, device=self.ids.device)


class Alternatives(nn.Module):
    """Draws from a group of behaviours any but one's own, each by its count; one draw is enough.

    Args:
        ids: (F, N), distinct behaviours. counts: (N,) int64, 1 or more. groups: (N,) int64, 0 or more.
    """

    def __init__(self, ids: Tensor, counts: Tensor, groups: Tensor) -> None:
        super().__init__()
        self.span = int(ids[0].max()) + 2 if ids.numel() else 2  # the last place of a group's stays empty
        keys = groups * self.span + ids[0]
        order = keys.argsort(stable=True)
        self.ids: Tensor
        self.keys: Tensor
        self.before: Tensor
        self.register_buffer("ids", ids[:, order], persistent=False)
        self.register_buffer("keys", keys[order], persistent=False)
        before = torch.cat([counts.new_zeros(1), counts[order].cumsum(0)])
        self.register_buffer("before", before, persistent=False)

    def draw(self, own: Tensor, groups: Tensor, chances: Tensor) -> tuple[Tensor, Tensor]:
        """Behaviours of each step's group whose first field is not its own.

        Args:
            own: (N,), ids of the first field. groups: (N,). chances: (N, K) float64 in [0, 1).

        Returns:
            ids: (F, N, K). found: (N, K) bool, False where the group has no other.
        """
        if not self.keys.numel():
            return none(self.ids, chances.shape)
        first, item = groups * self.span, groups * self.span + own.clamp(max=self.span - 1)
        borders = torch.stack([first, item, item + 1, first + self.span])
        begin, hole, behind, end = self.before[torch.searchsorted(self.keys, borders)].unsqueeze(-1)
        others = hole - begin + end - behind
        place = begin + (chances * others).long()
        place = torch.where(place < hole, place, place + behind - hole)
        drawn = torch.searchsorted(self.before, place, right=True) - 1
        return self.ids[:, drawn.clamp(max=len(self.keys) - 1)], (others > 0).expand_as(chances)


def none(ids: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Ids (F, *shape) that are padding, none of them found."""
    return ids.new_zeros(len(ids), *shape), ids.new_zeros(shape, dtype=torch.bool)
