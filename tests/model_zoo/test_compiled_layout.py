"""Comparison of declarations in Python and C++ when the library is loaded."""

import ctypes

import pytest
import torch
from made_recurrence import case, compiled

from model_zoo.DIEN.src.attentional_gru import attentional_gru
from model_zoo.DIEN.src.kernels.cpu import gru, layout, library, native_attention

pytestmark = compiled


@pytest.fixture
def not_loaded():
    library._load.cache_clear()
    yield
    library._load.cache_clear()


def run():
    attentional_gru(**case(torch.float32, 2, 3, 4), backend="compiled")


def written_otherwise(monkeypatch, structure, fields):
    class Otherwise(ctypes.Structure):
        _fields_ = tuple(fields)

    Otherwise.__name__ = structure.__name__
    others = [Otherwise if other is structure else other for other in layout._structures]
    assert others != layout._structures
    monkeypatch.setattr(layout, "_structures", others)


def swapped(fields, first, second):
    fields = list(fields)
    i, j = (next(i for i, field in enumerate(fields) if field[0] == name) for name in (first, second))
    fields[i], fields[j] = fields[j], fields[i]
    return fields


@pytest.mark.parametrize(
    "structure,first,second,message",
    [
        (gru.Problem, "inputs", "hidden", "Problem.hidden: offset 16 size 8 in C.., offset 8 size 8 in Python"),
        (gru.Gradients, "weight_hh", "bias", "Gradients.bias: offset 40 size 8 in C"),
        (native_attention.AttentionProblem, "query", "net", "AttentionProblem.net: offset 56 size 64 in C"),
    ],
)
def test_swapped_fields_are_an_error(structure, first, second, message, monkeypatch, not_loaded):
    run()
    library._load.cache_clear()
    fields = swapped(structure._fields_, first, second)
    written_otherwise(monkeypatch, structure, fields)
    for _ in range(2):  # the error is raised in every call, not only in the first
        with pytest.raises(RuntimeError, match=f"^The kernels' sources and Python differ about {message}") as error:
            run()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "fields,message",
    [
        (lambda fields: fields[:-1], "Problem: size 128 in C.., size 120 in Python"),
        (
            lambda fields: [*fields[:-1], ("bias", ctypes.c_int32)],
            "Problem.bias: offset 120 size 8 in C.., offset 120 size 4 in",
        ),
        (lambda fields: [*fields[:-1], ("biases", ctypes.c_void_p)], "Problem.biases: unknown in C"),
    ],
)
def test_other_fields_are_an_error(fields, message, monkeypatch, not_loaded):
    written_otherwise(monkeypatch, gru.Problem, fields(list(gru.Problem._fields_)))
    with pytest.raises(RuntimeError, match=f"^The kernels' sources and Python differ about {message}"):
        run()


def test_other_numbers_are_an_error(monkeypatch, not_loaded):
    for name, number in list(layout._NUMBERS.items()):
        with monkeypatch.context() as patch:
            patch.setitem(layout._NUMBERS, name, number + 1)
            with pytest.raises(RuntimeError, match=f"about {name}: {number} in C.., {number + 1} in Python"):
                run()
            patch.delitem(layout._NUMBERS, name)
            with pytest.raises(RuntimeError, match=f"about {name}: {number} in C.., unknown in Python"):
                run()


def test_every_structure_is_compared():
    assert {structure.__name__ for structure in layout._structures} == {
        "Problem",
        "Outcome",
        "Gradients",
        "Candidates",
        "Activation",
        "Net",
        "NetGradients",
        "AttentionProblem",
        "AttentionGradients",
        "AuxiliaryProblem",
        "AuxiliaryGradients",
        "Feature",
        "SequenceWeights",
        "ScorerWeights",
        "Column",
        "Request",
    }
