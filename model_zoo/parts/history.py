"""Targets and behaviours as embeddings, for models that read histories step by step."""

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
    """The features that a model reads, in the zoo's notation.

    target, sequence: fields in pairs. prefix: of these two keywords' names, for messages. times: a sequence of time
    tokens for each of the sequences; read, not embedded.
    """

    target: Field
    sequence: Field
    prefix: str = ""
    times: Field = ()


class History(NamedTuple):
    """One behaviour sequence of a batch and its target item; N real steps of B rows.

    target: (B, D_a). behaviours: (N, D). packing: where the steps lie. times: (N,), the time tokens, 0 where the model
    reads none.
    """

    target: Tensor
    behaviours: Tensor
    packing: Packing
    times: Tensor

    def sum_pooling(self) -> Tensor:
        """[Σe_t, e_a * Σe_t], (B, 2D)."""
        pooled = self.packing.sum(self.behaviours)
        return torch.cat([pooled, self.target * pooled], dim=-1)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Behaviours (B, T, D), zero at padding, and the mask (B, T) of real steps, which come first."""
        return self.packing.pad(self.behaviours), self.packing.mask()


class HistoryEmbedding(nn.Module):
    """Embeds every feature: histories step by step, all else as the profile.

    Args:
        feature_map: the zoo's FeatureMap.
        embedding_dim: of a feature without its own.
        fields: the features of targets, behaviours and time tokens.

    Attributes:
        target_sizes, behaviour_sizes: D_a and D of each sequence.
        profile_size: P, size of all features that have one value a row, targets among them.

    Raises:
        ValueError: fields that do not exist, do not pair up, or are pooled by their feature encoder.
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
        """X: the zoo's batch, each (B,) or (B, T). Returns a History a sequence, and the profile (B, P)."""
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
        """Size of every sequence's `History.sum_pooling` together.

        Raises:
            ValueError: a target cannot be multiplied with its behaviours.
        """
        for fields, target, behaviour in zip(self.sequences, self.target_sizes, self.behaviour_sizes, strict=True):
            if target != behaviour:
                raise ValueError(
                    f"sum pooling multiplies {self.prefix}target_field={'+'.join(fields.target)} (size "
                    f"{target}) with {self.prefix}sequence_field={'+'.join(fields.behaviours)} (size "
                    f"{behaviour}): their sizes must agree"
                )
        return 2 * sum(self.behaviour_sizes)
