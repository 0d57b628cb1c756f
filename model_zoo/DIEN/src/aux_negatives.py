"""Negatives for the auxiliary loss: behaviours that a user did not choose."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from .fields import Field, SequenceFields, as_tuples, oov_index, vocabulary_of
from .layers import batch_scope

Source = Literal["column", "in_batch", "popularity", "uniform", "category", "mixed"]
SOURCES = get_args(Source)
ZOO_COLUMNS: Field = [("neg_click_history", "neg_cate_history")]
"""Default of `dien_neg_seq_field` in the zoo's DIEN."""
REDRAWS = 4
_EVERY, _HARD, _WHICH = range(3)


def negative_source(aux_negatives: Source | None, fields: SequenceFields, dien_neg_seq_field: Field) -> str:
    """Return the source of the negatives, resolving None.

    None is `column` if `fields` has negative columns, else `in_batch`.

    Raises:
        ValueError: columns are named that do not exist; the columns of the zoo's default need not exist.
    """
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
    """Source of negatives for the behaviours of one sequence.

    Args:
        source: `column` reads the columns of `fields.negatives`, one negative per step. The others draw: `in_batch`
            from the batch; `popularity` or `uniform` from the data set's behaviour catalogue; `category` by popularity
            among behaviours with an equal second field; `mixed` from the catalogue by popularity or within the
            category, with a probability of one half each.
        samples: K, number of drawn negatives per step.
        fixed: gives a behaviour equal negatives whenever it follows the same behaviour, as if a column of the data set
            held them; only for sources that draw from the catalogue.

    Attributes:
        columns: the features that hold negatives; empty if negatives are drawn.

    Raises:
        ValueError: the data set has no catalogue of these behaviours, they have no second field, or `fixed` is set for
            draws from a batch.
    """

    def __init__(
        self, feature_map: FeatureMap, fields: SequenceFields, source: str, samples: int, fixed: bool = False
    ) -> None:
        super().__init__()
        if fixed and source == "in_batch":
            raise ValueError("aux_fixed_negatives cannot be combined with aux_negatives: in_batch; batches differ")
        if source in ("category", "mixed") and len(fields.behaviours) < 2:
            raise ValueError(
                f"aux_negatives: {source} needs a second field, the category, but a behaviour is {fields.behaviours}"
            )
        features = feature_map.features
        self.columns = fields.negatives if source == "column" else ()
        self.samples = samples
        names = self.columns or fields.behaviours
        oov = [oov_index(features, name) for name in names]
        self.oov: Tensor
        self.register_buffer("oov", torch.tensor(oov).unsqueeze(1), persistent=False)
        self.same_vocabulary = vocabulary_of(features, names[0]) == vocabulary_of(features, fields.behaviours[0])
        self.mixed, self.fixed = source == "mixed", fixed
        self.catalogue = self.every = self.of_category = None
        if source in ("column", "in_batch"):
            return
        known, counts = read_catalogue(feature_map.data_dir, names, oov)
        if source == "uniform":
            counts = torch.ones_like(counts)
        if source in ("category", "mixed"):
            self.of_category = Alternatives(known, counts, known[1])
        if fixed or self.of_category is not None:
            self.every = Alternatives(known, counts, torch.zeros_like(counts))
        else:
            self.catalogue = Catalogue(known, counts)

    def forward(self, ids: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Return negatives of N steps.

        Args:
            ids: (F, N), the behaviours.
            columns: (F, N), the features `self.columns` at these steps; (0, N) if negatives are drawn.

        Returns:
            ids: (F, N, K). valid: (N, K) bool, True for negatives.
        """
        if self.columns:
            valid = (columns[0] > 0) & self._known(columns)
            if self.same_vocabulary:
                valid = valid & (columns[0] != ids[0])
            return columns.unsqueeze(-1), valid.unsqueeze(-1)
        return batch_scope.batch().drawn(ids, self._draw)

    def _draw(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        if self.every is not None:
            return self._alternatives(ids, self.every)
        pool = BatchPool(ids[:, self._known(ids)]) if self.catalogue is None else self.catalogue
        return draw_against(pool, ids[0], self.samples)

    def _alternatives(self, ids: Tensor, every: "Alternatives") -> tuple[Tensor, Tensor]:
        others, found = every.draw(ids[0], torch.zeros_like(ids[0]), self._chances(ids[0], _EVERY))
        if self.of_category is None:
            return others, found
        hard, has_hard = self.of_category.draw(ids[0], ids[1], self._chances(ids[0], _HARD))
        if self.mixed:
            has_hard = has_hard & (self._chances(ids[0], _WHICH) < 0.5)
        return torch.where(has_hard, hard, others), found | has_hard

    def _chances(self, items: Tensor, purpose: int) -> Tensor:
        """Return pseudo-random numbers (N, K) float64 in [0, 1)."""
        shape = len(items), self.samples
        if not self.fixed:
            return torch.rand(shape, dtype=torch.float64, device=items.device)
        # The loss skips the first step of a row, so its hash, of the last item of the row before, is never used.
        transition = hashed(hashed(items.roll(1)) + items)
        number = 3 * torch.arange(self.samples, device=items.device) + purpose
        return (hashed(transition.unsqueeze(1) + number) >> 11 & (1 << 53) - 1).double() * 2**-53

    def _known(self, ids: Tensor) -> Tensor:
        return (ids != self.oov).all(dim=0)


def hashed(numbers: Tensor) -> Tensor:
    """Return int64 hashes of int64 numbers, equal on every machine.

    The function is the finalizer of SplitMix64 (Steele et al., OOPSLA 2014).
    """
    x = numbers - 0x61C8864680B583EB
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * -0x40A7B892E31B1A47
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * -0x6B2FB644ECCEEE15
    return x ^ (x >> 31 & (1 << 33) - 1)


def draw_against(pool: "BatchPool | Catalogue", positives: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Draw behaviours for each step that differ from the step's own behaviour.

    A draw that hits the step's own behaviour (by its first field) is repeated at most `REDRAWS` times.

    Args:
        pool: where to draw from.
        positives: (N,), ids of the first field.
        samples: K, number of draws per step.

    Returns:
        ids: (F, N, K), whole observed tuples. valid: (N, K) bool, False if no draw was a negative.
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
    """Pool of the behaviours of one batch, each as often as it occurs.

    Args:
        ids: (F, P), the behaviours that may be drawn.
    """

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return ids (F, *shape) of behaviours of the batch, and whether it has any."""
        size = self.ids.size(1)
        if size == 0:
            return none(self.ids, shape)
        return self.ids[:, torch.randint(size, shape, device=self.ids.device)], self.ids.new_ones(shape).bool()


def read_catalogue(data_dir: str | Path, fields: Sequence[str], oov: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Read the catalogue in the folder of a data set's feature map.

    Args:
        data_dir: the folder of feature_map.json.
        fields: sequence features that form a behaviour.
        oov: id of each field for unknown values; behaviours with this id are left out.

    Returns:
        ids: (F, N), distinct behaviours in ascending order. counts: (N,) int64, how often each occurs.

    Raises:
        ValueError: no catalogue in the folder has these fields.
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
    """Pool of the distinct behaviours of the training histories.

    Behaviours are drawn uniformly or as often as they occurred. The authors' program draws from all reviews, including
    those of the test set.

    Args:
        ids: (F, N), N distinct behaviours.
        weights: (N,), relative frequency of each draw.
    """

    def __init__(self, ids: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.ids: Tensor
        self.cumulative: Tensor
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("cumulative", weights.double().cumsum(0), persistent=False)

    def draw(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return drawn ids (F, *shape), and whether the catalogue has any."""
        size = self.cumulative.numel()
        if size == 0:
            return none(self.ids, shape)
        uniform = torch.rand(shape, device=self.ids.device, dtype=torch.float64)
        place = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1], right=True).clamp(max=size - 1)
        return self.ids[:, place], torch.ones(shape, dtype=torch.bool, device=self.ids.device)


class Alternatives(nn.Module):
    """Pool that draws any other behaviour of a group by its count, in a single draw.

    Args:
        ids: (F, N), distinct behaviours.
        counts: (N,) int64, 1 or more.
        groups: (N,) int64, 0 or more.
    """

    def __init__(self, ids: Tensor, counts: Tensor, groups: Tensor) -> None:
        super().__init__()
        self.span = int(ids[0].max()) + 2 if ids.numel() else 2  # the last place of each group stays empty
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
        """Draw behaviours of each step's group whose first field differs from the step's.

        Args:
            own: (N,), ids of the first field.
            groups: (N,), group of each step.
            chances: (N, K) float64 in [0, 1), random numbers.

        Returns:
            ids: (F, N, K). found: (N, K) bool, False if the group has no other behaviour.
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
    """Return ids (F, *shape) of padding, and False for each."""
    return ids.new_zeros(len(ids), *shape), ids.new_zeros(shape, dtype=torch.bool)
