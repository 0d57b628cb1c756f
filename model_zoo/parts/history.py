"""Embeddings of targets and behaviours, for models that read histories stepwise."""

from typing import NamedTuple

import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from torch import Tensor, nn

from model_zoo.DIEN.src.fields import (
    Field,
    as_tuples,
    check_feature,
    embedding_sizes,
    profile_fields,
    sequence_fields,
    total_size,
)
from model_zoo.DIEN.src.layers.packing import Packing, pack


class HistoryFields(NamedTuple):
    """Features that a model reads, in the zoo's notation.

    Attributes:
        target: features of the targets.
        sequence: features of the behaviours, paired with `target`.
        prefix: prefix of the names of these two keywords, for messages.
        times: one sequence of time tokens per behaviour sequence; read, not embedded.
    """

    target: Field
    sequence: Field
    prefix: str = ""
    times: Field = ()


class History(NamedTuple):
    """One behaviour sequence of a batch and its target item; N real steps of B rows.

    Attributes:
        target: (B, D_a).
        behaviours: (N, D).
        packing: places of the steps.
        times: (N,), the time tokens; 0 if the model reads none.
    """

    target: Tensor
    behaviours: Tensor
    packing: Packing
    times: Tensor

    def sum_pooling(self) -> Tensor:
        """Return [Σe_t, e_a * Σe_t], (B, 2D)."""
        pooled = self.packing.sum(self.behaviours)
        return torch.cat([pooled, self.target * pooled], dim=-1)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Return behaviours (B, T, D), zero at padding, and their mask (B, T).

        Real steps come first.
        """
        return self.packing.pad(self.behaviours), self.packing.mask()


class HistoryEmbedding(nn.Module):
    """Layer that embeds all features: histories step by step, the rest as profile.

    Args:
        feature_map: the zoo's FeatureMap.
        embedding_dim: embedding size of a feature without its own.
        fields: the features of targets, behaviours and time tokens.

    Attributes:
        target_sizes, behaviour_sizes: D_a and D of each sequence.
        profile_size: P, total size of all features that have one vector per row, including targets.

    Raises:
        ValueError: fields do not exist, do not pair up, or are pooled by their feature encoder.
    """

    def __init__(self, feature_map: FeatureMap, embedding_dim: int, fields: HistoryFields) -> None:
        super().__init__()
        features = feature_map.features
        target, sequence, prefix, times = fields
        self.prefix = prefix
        self.sequences = sequence_fields(features, target, sequence, [], prefix)
        self.times = [name for fields in as_tuples(times) for name in fields]
        for name in self.times:
            check_feature(features, name, "time_field", sequential=True)
        if self.times and len(self.times) != len(self.sequences):
            raise ValueError(
                f"time_field={times!r} names {len(self.times)} features, but {prefix}sequence_field="
                f"{sequence!r} has {len(self.sequences)} entries: each sequence needs its own"
            )
        self.embedding_layer = FeatureEmbeddingDict(feature_map, embedding_dim, not_required_feature_columns=self.times)
        sizes = embedding_sizes(features, self.embedding_layer)
        self.profile_fields = profile_fields(features, sizes, self.sequences, column_negatives=False)
        self.profile_size = total_size(sizes, self.profile_fields)
        self.target_sizes = [total_size(sizes, fields.target) for fields in self.sequences]
        self.behaviour_sizes = [total_size(sizes, fields.behaviours) for fields in self.sequences]

    def forward(self, X: dict[str, Tensor]) -> tuple[list[History], Tensor]:
        """Return one History per sequence, and the profile (B, P).

        Args:
            X: the zoo's batch, each (B,) or (B, T).
        """
        profile = self.embedding_layer({name: X[name] for name in self.profile_fields})
        histories = []
        for i, (target, behaviours, _) in enumerate(self.sequences):
            columns = (*behaviours, *self.times[i : i + 1])
            ids, packing = pack([X[name].long() for name in columns])
            steps = self.embedding_layer(dict(zip(behaviours, ids, strict=False)))
            embedded = torch.cat([steps[name] for name in behaviours], dim=-1)
            times = ids[-1] if self.times else torch.zeros_like(ids[0])
            histories.append(History(torch.cat([profile[name] for name in target], dim=-1), embedded, packing, times))
        return histories, torch.cat([profile[name] for name in self.profile_fields], dim=-1)

    def sum_pooling_size(self) -> int:
        """Return the total size of `History.sum_pooling` over all sequences.

        Raises:
            ValueError: a target and its behaviours have different sizes.
        """
        for fields, target, behaviour in zip(self.sequences, self.target_sizes, self.behaviour_sizes, strict=True):
            if target != behaviour:
                raise ValueError(
                    f"sum pooling multiplies {self.prefix}target_field={'+'.join(fields.target)} (size "
                    f"{target}) with {self.prefix}sequence_field={'+'.join(fields.behaviours)} (size "
                    f"{behaviour}): their sizes must agree"
                )
        return 2 * sum(self.behaviour_sizes)
