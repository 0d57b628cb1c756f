"""DIEN's forward pass over padded rows, in a form that `torch.export` accepts.

The numbers of users, behaviours and candidates are dynamic. The model's own forward pass packs the real steps of a
batch, whose number depends on the data. Here the recurrences are operators of `operators`, or loops over time that
`torch.export` keeps as loops. A step of a loop calls the reference, so that a new kind is exported without a change
here.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops import scan

from . import operators
from .attention import InterestAttention
from .interest_sequence import InterestSequence
from .kernels.reference import KINDS, next_state

ONNX_OPSET = 20
"""Opset of ONNX's GRU as written here."""


def make_export_module(model: Any, form: str) -> "PaddedDIEN":
    """Return the module that `DIEN.export_module` returns.

    Args:
        model: a DIEN in evaluation mode.
        form: `onnx` has the GRU of ONNX, and loops for kinds that ONNX lacks. `torch` has torch's operators
            `dien::extract` and `dien::evolve`, or loops if the model's backend is `torch` or `reference`, so that a
            program needs only torch.
    """
    if form == "onnx":
        return PaddedDIEN(model, onnx_extract, loop_evolve)
    if model.sequences[0].extractor.backend in ("torch", "reference"):
        return PaddedDIEN(model, loop_extract, loop_evolve)
    return PaddedDIEN(model, operators.extract, operators.evolve)


class PaddedDIEN(nn.Module):
    """Module that scores N candidates of B users as `forward` does in evaluation.

    Args:
        model: a DIEN in evaluation mode.
        extract, evolve: functions that run the two layers, with arguments and results as in `operators`.

    Attributes:
        features: names of the features that it reads.
        aligned: the features of each sequence, which have equal lengths.
    """

    def __init__(self, model: Any, extract: Callable[..., Tensor], evolve: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model = model
        self._extract, self._evolve = extract, evolve
        self.aligned: list[tuple[str, ...]] = [sequence.fields.behaviours for sequence in model.sequences]
        self.features: set[str] = {*model.profile_fields, *(name for names in self.aligned for name in names)}

    def forward(self, inputs: dict[str, Tensor], row: Tensor) -> Tensor:
        """Return the scores (N,), after the output activation.

        Args:
            inputs: features by name: sequences (B, T), with padding 0 at any place, and others (N,).
            row: (N,) int64, the user of each candidate.
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
        """Return the embedding per candidate; a pooled sequence belongs to the user."""
        return embedded[row] if self.model.feature_map.features[name]["type"] == "sequence" else embedded

    def _sequence(
        self, sequence: InterestSequence, inputs: dict[str, Tensor], target: Tensor, row: Tensor
    ) -> list[Tensor]:
        """Return what one sequence adds to the MLP's input.

        This is the final states and, with sum pooling, the pooled behaviours.
        """
        ids = _real_steps_first([inputs[name] for name in sequence.fields.behaviours])
        real = ids[0] > 0  # real: (T, B)
        lengths = real.sum(dim=0)
        embedded = self.model.embedding_layer(dict(zip(sequence.fields.behaviours, ids, strict=True)))
        behaviours = torch.cat([embedded[name] for name in sequence.fields.behaviours], dim=-1)
        states = self._extract(behaviours, lengths, *_weights(sequence.extractor))
        evolution = sequence.evolution
        if sequence.attention is None:
            users = torch.arange(states.size(1), device=row.device)
            ones = torch.ones_like(states[:, :, 0])
            final = self._evolve(states, lengths, users, ones, *_weights(evolution), evolution.kind)[row]
        else:
            attention = _attention(sequence.attention, states, target, real, row)
            final = self._evolve(states, lengths, row, attention, *_weights(evolution), evolution.kind)
        if not self.model.enable_sum_pooling:
            return [final]
        pooled = torch.where(real.unsqueeze(2), behaviours, 0).sum(dim=0)[row]
        return [final, pooled, target * pooled]


def _real_steps_first(ids: list[Tensor]) -> list[Tensor]:
    """Return each (B, T) as (T + 1, B): real steps in order, then padding.

    There is always at least one step of padding.
    """
    padded = [F.pad(x, (0, 1)) for x in ids]
    steps = padded[0].size(1)
    number = torch.arange(steps, device=padded[0].device)
    order = torch.where(padded[0] > 0, number, number + steps).argsort(dim=1)
    return [x.gather(1, order).T for x in padded]


def _attention(layer: InterestAttention, states: Tensor, target: Tensor, real: Tensor, row: Tensor) -> Tensor:
    """Return a_t of (8), (T, N); 0 beyond the end of a row."""
    query = layer.query(target)
    steps = states[:, row]
    if layer.unit is None:
        scores = (steps * query).sum(dim=2)
    else:  # split in four terms, as in `in_torch.attention_scores`
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


def onnx_extract(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Run the first layer as ONNX's GRU, with the interface of `operators.extract`.

    Values beyond the ends of rows are undefined. The gate z of ONNX weights the old state: with u = 1 - z, the weights
    of z are those of u with the opposite sign.
    """
    steps, rows, _ = inputs.shape
    size = weight_hh.size(1)

    def gates(weight: Tensor) -> Tensor:
        """Turn [u, r, candidate] into [z, r, candidate], with an axis for directions."""
        return torch.cat([-weight[:size], weight[size:]]).unsqueeze(0)

    both_biases = torch.cat([gates(bias), torch.zeros_like(bias).unsqueeze(0)], dim=1)
    states, _ = torch.onnx.ops.symbolic_multi_out(
        "GRU",
        [inputs, gates(weight_ih), gates(weight_hh), both_biases, lengths.to(torch.int32)],
        {"hidden_size": size, "linear_before_reset": 1},
        dtypes=[inputs.dtype] * 2,
        shapes=[(steps, 1, rows, size), (1, rows, size)],
        version=ONNX_OPSET,
    )
    return states.squeeze(1)


def loop_extract(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Run the first layer as a loop, with the interface of `operators.extract`.

    Values beyond the ends of rows are undefined.
    """

    def step(h: Tensor, now: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, real = now
        h = torch.where(real, _next(h, x, h, weight_hh, bias, "GRU"), h)
        return h, h.clone()

    start = inputs.new_zeros(inputs.size(1), weight_hh.size(1))
    return scan(step, start, (inputs @ weight_ih.T, _real(inputs, lengths)), dim=0)[1]


def loop_evolve(
    states: Tensor,
    lengths: Tensor,
    row: Tensor,
    attention: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> Tensor:
    """Run the second layer as a loop, with the interface of `operators.evolve`."""
    x = (states @ weight_ih.T)[:, row]
    real, a = _real(states, lengths)[:, row], attention.unsqueeze(2)
    if KINDS[kind].scales_input:
        x = a * x  # (9): W (a i)

    def step(h: Tensor, now: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        x, real, a = now
        return torch.where(real, _next(h, x, a, weight_hh, bias, kind), h), h.new_zeros(())

    return scan(step, states.new_zeros(row.size(0), weight_hh.size(1)), (x, real, a), dim=0)[0]


def _next(h: Tensor, x: Tensor, a: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> Tensor:
    """Return h' after one step.

    Args:
        h: (N, H), the state before the step.
        x: (N, 3H), W i.
        a: (N, 1), attention.
        weight_hh: (3H, H).
        bias: (3H,).
        kind: one of `kernels.reference.KINDS`.
    """
    return next_state(kind, a, h, x.chunk(3, dim=1), (h @ weight_hh.T).chunk(3, dim=1), bias.chunk(3))


def _real(steps: Tensor, lengths: Tensor) -> Tensor:
    """Return which steps are real, (T, B, 1) bool."""
    number = torch.arange(steps.size(0), device=steps.device)
    return (number.unsqueeze(1) < lengths).unsqueeze(2)
