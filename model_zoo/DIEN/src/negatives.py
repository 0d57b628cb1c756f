"""Where the auxiliary loss finds behaviours that the user did not choose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from .fields import Field, SequenceFields, as_tuples, oov_index, vocabulary_of
from .keywords import check_choice

Source = Literal["column", "in_batch", "popularity", "uniform"]
SOURCES = get_args(Source)
ZOO_COLUMNS: Field = [("neg_click_history", "neg_cate_history")]
"""What the zoo's DIEN takes for `dien_neg_seq_field` where an entry says nothing."""
REDRAWS = 4


def negative_source(aux_negatives: Source | None, fields: SequenceFields, dien_neg_seq_field: Field) -> str:
    """The keyword's value, or what None stands for: the columns of `fields` where there are any, else the batch.

    Raises:
        ValueError: an unknown source, or columns that do not exist; those of the zoo's default need not.
    """
    check_choice("aux_negatives", aux_negatives, (None, *SOURCES))
    source = aux_negatives or ("column" if fields.negatives else "in_batch")
    if not fields.negatives and (
        source == "column" or (aux_negatives is None and as_tuples(dien_neg_seq_field) not in ([], ZOO_COLUMNS))
    ):
        raise ValueError(
            f"{aux_negatives=} needs columns that exist, but the data set lacks some of {dien_neg_seq_field=}; "
            "aux_negatives: in_batch draws instead"
        )
    return source


class NegativeSampler(nn.Module):
    """Finds negatives for the behaviours of one sequence.

    Args:
        source: `column`, the columns of `fields.negatives`, one negative a step; else where to draw from:
            `in_batch`, or the data set's behaviour catalogue by `popularity` or `uniform`.
        samples: K, negatives a step, where they are drawn.

    Attributes:
        columns: the features that are negatives; none where they are drawn.

    Raises:
        ValueError: the data set has no catalogue of these behaviours.
    """

    def __init__(self, feature_map: FeatureMap, fields: SequenceFields, source: str, samples: int) -> None:
        super().__init__()
        features = feature_map.features
        self.columns = fields.negatives if source == "column" else ()
        self.samples = samples
        names = self.columns or fields.behaviours
        oov = [oov_index(features, name) for name in names]
        self.oov: Tensor
        self.register_buffer("oov", torch.tensor(oov).unsqueeze(1), persistent=False)
        self.same_vocabulary = vocabulary_of(features, names[0]) == vocabulary_of(features, fields.behaviours[0])
        self.catalogue = None
        if source in ("popularity", "uniform"):
            self.catalogue = Catalogue.load(feature_map.data_dir, names, oov, by_popularity=source == "popularity")

    def forward(self, ids: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Negatives of N steps.

        Args:
            ids: (F, N), the behaviours. columns: those of `columns` beside them, (F, N) or (0, N).

        Returns:
            ids: (F, N, K). valid: (N, K) bool, which of them are negatives.
        """
        if self.columns:
            valid = (columns[0] > 0) & self._known(columns)
            if self.same_vocabulary:
                valid = valid & (columns[0] != ids[0])
            return columns.unsqueeze(-1), valid.unsqueeze(-1)
        pool = BatchPool(ids[:, self._known(ids)]) if self.catalogue is None else self.catalogue
        return draw_against(pool, ids[0], self.samples)

    def _known(self, ids: Tensor) -> Tensor:
        return (ids != self.oov).all(dim=0)


def draw_against(pool: "BatchPool | Catalogue", positives: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Draws `samples` behaviours for each step, never the step's own.

    A draw that hits the step's own behaviour (the same first field) is repeated at most `REDRAWS` times.

    Args:
        pool: where to draw from. positives: (N,), ids of the first field.

    Returns:
        ids: (F, N, K), whole observed tuples. valid: (N, K) bool, False where no draw was a negative.
    """
    own = positives.unsqueeze(1).expand(-1, samples)
    ids, observed = pool.draw(own.shape)
    for _ in range(REDRAWS):
        step, sample = (ids[0] == own).nonzero(as_tuple=True)
        if not len(step):
            break
        ids[:, step, sample], _ = pool.draw(step.shape)
    return ids, observed & (ids[0] != own)


class BatchPool:
    """The behaviours of one batch, each as often as it occurs.

    Args:
        ids: (F, P), the behaviours that may be drawn.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Ids (F, *shape) of behaviours of the batch, and whether there was one to draw."""
        size = self.ids.size(1)
        if size == 0:
            return _none(self.ids, shape)
        return self.ids[:, torch.randint(size, shape, device=self.ids.device)], self.ids.new_ones(shape).bool()


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

    @classmethod
    def load(cls, data_dir: str | Path, fields: Sequence[str], oov: Sequence[int], by_popularity: bool) -> "Catalogue":
        """Reads the catalogue that lies beside the feature map of a data set.

        Args:
            data_dir: the folder of feature_map.json. fields: sequence features that make up a behaviour.
            oov: the id of each field that stands for unknown values; behaviours with it are left out.

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
                "popularity and uniform draw; rebuild the data set, or use aux_negatives: in_batch"
            )
        known = (ids[0] > 0) & (ids != np.array(oov)[:, None]).all(axis=0)
        ids, owner = np.unique(ids[:, known], axis=1, return_inverse=True)
        weights = np.bincount(owner.ravel(), weights=counts[known]) if by_popularity else np.ones(ids.shape[1])
        return cls(torch.from_numpy(ids), torch.from_numpy(weights))

    def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Ids (F, *shape), and whether there was one to draw."""
        size = self.cumulative.numel()
        if size == 0:
            return _none(self.ids, shape)
        uniform = torch.rand(shape, device=self.ids.device, dtype=torch.float64)
        place = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1], right=True).clamp(max=size - 1)
        return self.ids[:, place], torch.ones(shape, dtype=torch.bool, device=self.ids.device)


def _none(ids: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    return ids.new_zeros(len(ids), *shape), ids.new_zeros(shape, dtype=torch.bool)
