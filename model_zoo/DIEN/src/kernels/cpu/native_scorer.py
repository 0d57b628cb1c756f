"""Whole forward pass of one user and N candidates in one native call."""

import ctypes
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from . import library
from .inference import Layers
from .layout import KINDS, POOLINGS, Structure
from .native_attention import of_queries
from .net import Activation, Elementwise, Net, check, check_net, make_activation, make_net


class Feature(Structure):
    """Structure of scorer.h."""

    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "size", "pooling")] + [("table", ctypes.c_void_p)]


class SequenceWeights(Structure):
    """Structure of scorer.h."""

    _fields_ = (
        [
            (name, ctypes.c_int64)
            for name in ("behaviours", "targets", "size", "target_size", "hidden", "kind", "softmax")
        ]
        + [(name, ctypes.POINTER(ctypes.c_int64)) for name in ("behaviour_features", "target_features")]
        + [
            (f"{layer}_{name}", ctypes.c_void_p)
            for layer in ("extractor", "evolution")
            for name in ("ih", "hh", "bias")
        ]
        + [("query_weight", ctypes.c_void_p), ("query_bias", ctypes.c_void_p)]
        + [("query_activation", Activation), ("unit", Net)]
    )


class ScorerWeights(Structure):
    """Structure of scorer.h."""

    _fields_ = [(name, ctypes.c_int64) for name in ("features", "profile", "sequences", "sum_pooling")] + [
        ("of_features", ctypes.POINTER(Feature)),
        ("of_sequences", ctypes.POINTER(SequenceWeights)),
        ("mlp", Net),
    ]


class Column(Structure):
    """Structure of scorer.h."""

    _fields_ = (
        ("count", ctypes.c_int64),
        ("is_user", ctypes.c_int64),
        ("ids", ctypes.c_void_p),
        ("numbers", ctypes.c_void_p),
    )


class Request(Structure):
    """Structure of scorer.h."""

    _fields_ = (("candidates", ctypes.c_int64), ("columns", ctypes.POINTER(Column)))


@dataclass(frozen=True)
class Table:
    """Embeddings of a feature.

    Attributes:
        rows: (vocabulary, size) float32 on a CPU; for a number the single row (1, size) that it is multiplied with.
        is_number: whether the feature is a number, which has no ids.
        pooling: one of `POOLINGS`, over the steps of a sequence.
    """

    rows: Tensor
    is_number: bool = False
    pooling: str = "not pooled"


class Recurrence(NamedTuple):
    """Weights of a recurrence with I inputs and H states."""

    weight_ih: Tensor  # (3H, I)
    weight_hh: Tensor  # (3H, H)
    bias: Tensor  # (3H,)


class Query(NamedTuple):
    """Layer that maps a target (D,) to its query; without a weight, the identity."""

    weight: Tensor | None = None  # (H, D)
    bias: Tensor | None = None  # (H,)
    activation: Elementwise = Elementwise()


@dataclass(frozen=True)
class SequenceLayers:
    """Layers of one behaviour sequence.

    Attributes:
        behaviours, targets: their features, as indices of the tables.
        extractor, evolution: the two recurrences.
        kind: kind of the evolution, one of `KINDS`.
        softmax: whether the scores go through a softmax.
        query: maps the target to the query.
        unit: DIN's attention unit on [q, h, q - h, q * h]; None: the score is q h.
    """

    behaviours: Sequence[int]
    targets: Sequence[int]
    extractor: Recurrence
    evolution: Recurrence
    kind: str
    softmax: bool
    query: Query
    unit: Layers | None


class NativeScorer:
    """Scorer of candidates in one native call; concurrent calls wait for each other.

    Weights are copied, tables are not: after further training, build a new scorer.

    Args:
        tables: one per feature, first those of the profile in the order of the MLP's input.
        profile: number of tables of the profile.
        sequences: layers of each sequence.
        mlp: network on [h', with sum_pooling also Σe and e_a * Σe, of each sequence; profile], including its output
            activation.
        sum_pooling: whether the MLP gets the pooled behaviours.

    Raises:
        ValueError: a layer has the wrong shape, dtype or device.
        RuntimeError: there is no compiler.
        MemoryError: there is not enough memory.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        profile: int,
        sequences: Sequence[SequenceLayers],
        mlp: Layers,
        sum_pooling: bool,
    ) -> None:
        self._library = library.require()
        self._calls = threading.Lock()
        self._kept: list[Tensor] = []
        sizes = [table.rows.size(1) for table in tables]
        features = [
            Feature(
                0 if table.is_number else len(table.rows), size, POOLINGS.index(table.pooling), self._table(table.rows)
            )
            for table, size in zip(tables, sizes, strict=True)
        ]
        weights = [self._sequence(sequence, sizes) for sequence in sequences]
        if sum_pooling and any(each.size != each.target_size for each in weights):
            raise ValueError("sum pooling multiplies targets and behaviours, whose sizes must agree")
        inputs = sum(sizes[:profile]) + sum(each.hidden + 2 * each.size * sum_pooling for each in weights)
        self._weights = ScorerWeights(  # kept as an attribute: the kernels hold pointers into it
            len(features),
            profile,
            len(weights),
            sum_pooling,
            library.array_type(Feature, len(features))(*features),
            library.array_type(SequenceWeights, len(weights))(*weights),
            self._net(inputs, mlp),
        )
        self._scorer = ctypes.c_void_p()
        self._call("scorer_make", self._weights, ctypes.byref(self._scorer))
        free = weakref.finalize(self, library.call_of, self._library, "scorer_free", self._scorer, dtype=torch.float32)
        free.atexit = False

    def __call__(self, columns: Sequence[tuple[int, bool, int | None, int | None]], count: int, scores: int) -> None:
        """Score candidates.

        Args:
            columns: one tuple per feature: the number of values, whether they are the user's, the address of ids,
                int64, and the address of numbers, float32; one of the addresses is None.
            count: number of candidates.
            scores: address of the result, (count,) float32.

        Raises:
            IndexError: a table lacks an id.
            MemoryError: there is not enough memory.
        """
        request = Request(count, library.array_type(Column, len(columns))(*columns))
        with self._calls:
            self._call("scorer_score", self._scorer, request, ctypes.c_void_p(scores))

    def _call(self, name: str, *arguments: object) -> None:
        library.call_of(self._library, name, *arguments, dtype=torch.float32)

    def _table(self, rows: Tensor) -> int:
        if rows.dtype != torch.float32 or rows.device.type != "cpu":
            raise ValueError(f"tables must be torch.float32 on a CPU, one is {rows.dtype} on {rows.device}")
        self._kept.append(rows.detach().contiguous())
        return self._kept[-1].data_ptr()

    def _copy(self, tensor: Tensor) -> Tensor:
        self._kept.append(tensor.detach().clone(memory_format=torch.contiguous_format))
        return self._kept[-1]

    def _address(self, tensor: Tensor | None) -> int | None:
        return library.address(None if tensor is None else self._copy(tensor))

    def _activation(self, activation: Elementwise) -> Elementwise:
        return Elementwise(activation.kind, *(x if x is None else self._copy(x) for x in activation[1:]))

    def _net(self, inputs: int, layers: Layers) -> Net:
        weights, biases = ([self._copy(tensor) for tensor in each] for each in layers[:2])
        activations = [self._activation(each) for each in layers.activations]
        check_net(inputs, weights, biases, activations, torch.float32)
        return make_net(weights, biases, [make_activation(each) for each in activations])

    def _sequence(self, sequence: SequenceLayers, sizes: list[int]) -> SequenceWeights:
        behaviours, targets = sequence.behaviours, sequence.targets
        size, target_size = (sum(sizes[i] for i in numbers) for numbers in (behaviours, targets))
        hidden = sequence.evolution.weight_hh.size(1)
        extractor, evolution, query = sequence.extractor, sequence.evolution, sequence.query
        shapes = {
            "extractor's weight_ih": (extractor.weight_ih, (3 * hidden, size)),
            "extractor's weight_hh": (extractor.weight_hh, (3 * hidden, hidden)),
            "extractor's bias": (extractor.bias, (3 * hidden,)),
            "evolution's weight_ih": (evolution.weight_ih, (3 * hidden, hidden)),
            "evolution's weight_hh": (evolution.weight_hh, (3 * hidden, hidden)),
            "evolution's bias": (evolution.bias, (3 * hidden,)),
        }
        if query.weight is not None:
            shapes["query's weight"] = query.weight, (hidden, target_size)
        elif sequence.kind != "GRU" and target_size != hidden:
            raise ValueError(f"the size of a target, {target_size}, must equal the size of a query, {hidden}")
        numbers = {"query's bias": query.bias, "query's slope": query.activation.slope}
        shapes |= {name: (tensor, (hidden,)) for name, tensor in numbers.items() if tensor is not None}
        check(shapes, torch.float32)
        unit = Net()
        if sequence.unit is not None:
            weights = [of_queries(sequence.unit.weights[0]), *sequence.unit.weights[1:]]
            unit = self._net(4 * hidden, sequence.unit._replace(weights=weights))
        return SequenceWeights(
            len(behaviours),
            len(targets),
            size,
            target_size,
            hidden,
            KINDS.index(sequence.kind),
            sequence.softmax,
            library.array_type(ctypes.c_int64, len(behaviours))(*behaviours),
            library.array_type(ctypes.c_int64, len(targets))(*targets),
            *(self._address(weight) for weight in (*extractor, *evolution)),
            self._address(query.weight),
            self._address(query.bias),
            make_activation(self._activation(query.activation)),
            unit,
        )
