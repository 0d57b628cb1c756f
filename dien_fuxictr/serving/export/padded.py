"""DIEN's forward pass over padded rows, any number of users, behaviours and candidates, as `torch.export` takes it.

The model's own packs the real steps of a batch, and how many there are depends on the data.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.attention import InterestAttention
from model_zoo.DIEN.src.interest_sequence import InterestSequence


class Recurrences(Protocol):
    """Arguments and results as of `model_zoo.DIEN.src.operators`."""

    def extract(
        self, inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor
    ) -> Tensor: ...

    def evolve(
        self,
        states: Tensor,
        lengths: Tensor,
        row: Tensor,
        attention: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        kind: str,
    ) -> Tensor: ...


class PaddedDIEN(nn.Module):
    """The scores of N candidates of B users, as of the model's `forward` in evaluation.

    Args:
        model: in evaluation mode.
        recurrences: what runs the two layers.
    """

    def __init__(self, model: DIEN, recurrences: Recurrences) -> None:
        super().__init__()
        self.model = model
        self.recurrences = recurrences

    def forward(self, inputs: dict[str, Tensor], row: Tensor) -> Tensor:
        """Scores.

        Args:
            inputs: of each sequence (B, T), padding 0 wherever it is; of any other feature (N,).
            row: (N,) int64, the user of each candidate.

        Returns:
            (N,), after the output activation.
        """
        model = self.model
        profile = model.embed_profile(inputs)
        profile = {name: self._of_candidates(name, embedded, row) for name, embedded in profile.items()}
        parts = []
        for sequence, target in zip(model.sequences, model.embed_targets(profile), strict=True):
            parts += self._sequence(sequence, inputs, target, row)
        features = torch.cat([*parts, *(profile[name] for name in model.profile_fields)], dim=-1)
        return model.output_activation(model.dnn(features)).squeeze(1)

    def _of_candidates(self, name: str, embedded: Tensor, row: Tensor) -> Tensor:
        """A pooled sequence is the user's."""
        return embedded[row] if self.model.feature_map.features[name]["type"] == "sequence" else embedded

    def _sequence(
        self, sequence: InterestSequence, inputs: dict[str, Tensor], target: Tensor, row: Tensor
    ) -> list[Tensor]:
        """What one sequence adds to the MLP's input: final states, and with sum pooling the pooled behaviours."""
        ids = _real_steps_first([inputs[name] for name in sequence.fields.behaviours])
        real = ids[0] > 0  # (T, B)
        lengths = real.sum(dim=0)
        embedded = self.model.embedding_layer(dict(zip(sequence.fields.behaviours, ids, strict=True)))
        behaviours = torch.cat([embedded[name] for name in sequence.fields.behaviours], dim=-1)
        states = self.recurrences.extract(behaviours, lengths, *_weights(sequence.extractor))
        evolution = sequence.evolution
        if sequence.attention is None:
            users = torch.arange(states.size(1), device=row.device)
            ones = torch.ones_like(states[:, :, 0])
            final = self.recurrences.evolve(states, lengths, users, ones, *_weights(evolution), evolution.kind)[row]
        else:
            attention = _attention(sequence.attention, states, target, real, row)
            final = self.recurrences.evolve(states, lengths, row, attention, *_weights(evolution), evolution.kind)
        if not self.model.enable_sum_pooling:
            return [final]
        pooled = torch.where(real.unsqueeze(2), behaviours, 0).sum(dim=0)[row]
        return [final, pooled, target * pooled]


def _real_steps_first(ids: list[Tensor]) -> list[Tensor]:
    """Each (B, T) as (T + 1, B): real steps in their order, then padding, of which there is always one."""
    padded = [F.pad(x, (0, 1)) for x in ids]
    steps = padded[0].size(1)
    number = torch.arange(steps, device=padded[0].device)
    order = torch.where(padded[0] > 0, number, number + steps).argsort(dim=1)
    return [x.gather(1, order).T for x in padded]


def _attention(layer: InterestAttention, states: Tensor, target: Tensor, real: Tensor, row: Tensor) -> Tensor:
    """a_t of (8), (T, N); 0 behind the ends."""
    query = layer.query(target)
    steps = states[:, row]
    if layer.unit is None:
        scores = (steps * query).sum(dim=2)
    else:  # as `in_torch.attention_scores` takes it apart
        W_1, W_2, W_3, W_4 = layer.unit.first.weight.chunk(4, dim=1)
        of_query = F.linear(query, W_1 + W_3, layer.unit.first.bias)
        units = F.linear(states, W_2 - W_3)[:, row] + F.linear(query * steps, W_4) + of_query
        scores = layer.unit.after_first(units.flatten(0, 1)).view(steps.shape[:2])
    mask = real[:, row]
    if layer.use_softmax:
        scores = torch.where(mask, scores, -torch.inf).softmax(dim=0)
    return torch.where(mask, scores, 0)


def _weights(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    return layer.weight_ih, layer.weight_hh, layer.bias  # pyright: ignore[reportReturnType]
