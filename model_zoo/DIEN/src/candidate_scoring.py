"""Scores of one user's candidates: in one native call, or in torch."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from fuxictr.pytorch.layers import Dice as ZooDice
from fuxictr.pytorch.layers import MaskedAveragePooling, MaskedSumPooling
from fuxictr.pytorch.layers.embeddings.pretrained_embedding import PretrainedEmbedding
from torch import nn

from .attention import InterestAttention
from .interest_sequence import InterestSequence
from .kernels.cpu import KINDS, NativeScorer, library
from .kernels.cpu.inference import as_network, dice, elementwise
from .kernels.cpu.native_scorer import Query, Recurrence, SequenceLayers, Table
from .kernels.cpu.net import Elementwise

Arrays = Mapping[str, np.ndarray]
CandidateScorer = Callable[[Arrays, Arrays, int], np.ndarray]
"""Function of the user's features, the candidates' features and N; see `DIEN.scorer`."""

_POOLINGS: dict[type[nn.Module], str] = {MaskedSumPooling: "sum", MaskedAveragePooling: "mean"}


def make_scorer(model: Any) -> CandidateScorer:
    """Return the native scorer of a DIEN, or torch's with a log line that says why."""
    lacking = list(_lacking(model))
    if not lacking:
        return _Native(model)
    logging.info("Candidates are scored by torch, which is slower: the native scorer lacks %s", "; ".join(lacking))
    return lambda user, candidates, count: _in_torch(model, user, candidates, count)


@torch.inference_mode()
def _in_torch(model: Any, user: Arrays, candidates: Arrays, count: int) -> np.ndarray:
    """Return the scores (N,) of one user's candidates, computed by torch.

    The user's features are looked up once and their interests extracted once, (2)-(5); the interests evolve towards
    each candidate, (8)-(12).
    """
    if not count:
        return np.zeros(0, np.float32)
    of_user, of_candidates = (
        {name: torch.from_numpy(values).to(model.device) for name, values in part.items()}
        for part in (user, candidates)
    )
    fields = set(model.profile_fields)
    profile = model.embedding_layer({name: values for name, values in of_candidates.items() if name in fields})
    own = model.embedding_layer({name: values for name, values in of_user.items() if name in fields})
    profile |= {name: embedded.expand(count, -1) for name, embedded in own.items()}
    targets = model.embed_targets(profile)
    interests = model.extract(model.embed_behaviours(of_user))
    evolved = model.evolve_candidates(interests, targets)
    logits = model.predict_logits(profile, targets, interests, evolved)
    return model.output_activation(logits).squeeze(1).cpu().numpy()


def _lacking(model: Any) -> Iterator[str]:
    """Yield what the model has that the native scorer does not support."""
    first = next(model.parameters())
    if first.device.type != "cpu" or first.dtype != torch.float32:
        yield f"{first.dtype} on {first.device}"
    backends = {sequence.extractor.backend for sequence in model.sequences}
    if others := backends - {"auto", "compiled"}:
        yield f"recurrence_backend={', '.join(sorted(others))}"
    try:
        library.require()
    except RuntimeError as error:
        yield str(error).splitlines()[0]
    for name in _features(model):
        if _table(model, name) is None:
            spec = model.feature_map.features[name]
            yield f"{name}, {spec['type']} with feature_encoder={spec.get('feature_encoder')!r}"
    for sequence in model.sequences:
        if sequence.evolution.kind not in KINDS:
            yield sequence.evolution.kind
        unit = sequence.attention and sequence.attention.unit
        if unit is not None and as_network(unit.layers) is None:
            yield f"an attention unit of {_kinds(unit.layers)}"
    if as_network(_mlp(model), _elementwise) is None:
        yield f"an MLP of {_kinds(_mlp(model))}"


def _kinds(layers: "nn.ModuleList | list[nn.Module]") -> str:
    return ", ".join(dict.fromkeys(type(layer).__name__ for layer in layers))


def _features(model: Any) -> list[str]:
    """Return the profile's features, in the MLP's order, then the stepwise features."""
    stepwise = (name for sequence in model.sequences for name in sequence.fields.behaviours)
    return [*model.profile_fields, *dict.fromkeys(stepwise)]


def _mlp(model: Any) -> list[nn.Module]:
    return [*model.dnn.mlp, model.output_activation]


def _elementwise(layer: nn.Module) -> Elementwise | None:
    if type(layer) is ZooDice:
        assert layer.bn.running_mean is not None and layer.bn.running_var is not None
        return dice(layer.alpha, layer.bn.running_mean, layer.bn.running_var, layer.bn.eps)
    return elementwise(layer)


@torch.no_grad()
def _table(model: Any, name: str) -> Table | None:
    """Return a feature's embeddings; None unless it has one row per id."""
    embedding, kind = model.embedding_layer, model.feature_map.features[name]["type"]
    layer, pooling = embedding.embedding_layers[name], "not pooled"
    if name in embedding.feature_encoders:
        pooling = _POOLINGS.get(type(embedding.feature_encoders[name]), "")
        if kind != "sequence" or not pooling:
            return None
    if kind == "numeric" and type(layer) is nn.Linear:
        return Table(layer.weight.T, is_number=True)
    if kind in ("categorical", "sequence") and type(layer) is nn.Embedding:
        return Table(layer.weight, pooling=pooling)
    if kind in ("categorical", "sequence") and type(layer) is PretrainedEmbedding:
        return Table(layer(torch.arange(layer.pretrain_embedding.num_embeddings)), pooling=pooling)
    return None


def _layers(sequence: InterestSequence, behaviours: list[int], targets: list[int]) -> SequenceLayers:
    attention, evolution = sequence.attention, sequence.evolution
    extractor, second = (
        Recurrence(layer.weight_ih, layer.weight_hh, layer.bias) for layer in (sequence.extractor, evolution)
    )
    query, unit, softmax = Query(), None, False
    if attention is not None:
        query, softmax = _query(attention), attention.use_softmax
        unit = attention.unit and as_network(attention.unit.layers)
    return SequenceLayers(behaviours, targets, extractor, second, evolution.kind, softmax, query, unit)


def _query(attention: InterestAttention) -> Query:
    if attention.attention_type == "bilinear_attention":
        return Query(attention.weight)
    query = Query()
    for layer in attention.project.modules():
        if isinstance(layer, nn.Linear):
            query = Query(layer.weight, layer.bias)
        elif known := isinstance(layer, nn.PReLU) and elementwise(layer):
            query = query._replace(activation=known)
    return query


class _Native:
    """Native call that takes features by name."""

    def __init__(self, model: Any) -> None:
        names = _features(model)
        tables = {name: table for name in names if (table := _table(model, name))}
        mlp = as_network(_mlp(model), _elementwise)
        assert mlp is not None and len(tables) == len(names)
        self._rows = {name: 0 if table.is_number else len(table.rows) for name, table in tables.items()}
        self._stepwise = [sequence.fields.behaviours for sequence in model.sequences]
        pooled = {name for name, table in tables.items() if table.pooling != "not pooled"}
        self._of_user = pooled.union(*self._stepwise)
        number = {name: i for i, name in enumerate(names)}
        sequences = [
            _layers(
                sequence,
                [number[name] for name in sequence.fields.behaviours],
                [number[name] for name in sequence.fields.target],
            )
            for sequence in model.sequences
        ]
        profile = len(model.profile_fields)
        self._score = NativeScorer(list(tables.values()), profile, sequences, mlp, model.enable_sum_pooling)

    def __call__(self, user: Arrays, candidates: Arrays, count: int) -> np.ndarray:
        scores = np.zeros(count, np.float32)
        arrays = {name: self._values(name, user, candidates, count) for name in self._rows}
        for names in self._stepwise:
            if len({arrays[name].size for name in names}) > 1:
                lengths = ", ".join(f"{name} {arrays[name].size}" for name in names)
                raise ValueError(f"the sequences of a behaviour must have equal lengths, have {lengths}")
        columns = []
        for name, rows in self._rows.items():
            address = arrays[name].ctypes.data
            columns.append((arrays[name].size, name in user, *((address, None) if rows else (None, address))))
        try:
            self._score(columns, count, scores.ctypes.data)
        except IndexError as error:
            raise IndexError(f"{self._unknown(arrays)}: {error}") from error
        return scores

    def _values(self, name: str, user: Arrays, candidates: Arrays, count: int) -> np.ndarray:
        is_user = name in user
        given = user[name] if is_user else candidates[name]
        values = np.ascontiguousarray(given, np.int64 if self._rows[name] else np.float32)
        if name in self._of_user:
            if not is_user:
                raise ValueError(f"{name} is a sequence; it must be given for the user")
        elif values.size != (1 if is_user else count):
            raise ValueError(f"{name} must have {1 if is_user else count} values, has {values.size}")
        return values

    def _unknown(self, arrays: dict[str, np.ndarray]) -> str:
        """Return the names of features with ids that have no row."""
        ids = {name: arrays[name] for name, rows in self._rows.items() if rows}
        return ", ".join(name for name, each in ids.items() if ((each < 0) | (each >= self._rows[name])).any())
