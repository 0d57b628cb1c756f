"""Kernels in Triton as torch operators: gradients, graphs, autocast."""

import pytest
import torch
from made_triton import DEVICE, LEAVES, case, outcome, transcription
from torch.autograd import gradcheck
from torch.library import opcheck

from model_zoo.DIEN.src.kernels.triton import KINDS, recurrence, triton_operators


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind):
    arguments = case(kind, [2, 0, 1], 2, inputs=1, dtype=torch.float64)
    leaves = [arguments[n].requires_grad_() for n in LEAVES]
    assert gradcheck(
        lambda *tensors: recurrence(**{**arguments, **dict(zip(LEAVES, tensors, strict=True))}), leaves, fast_mode=True
    )


@pytest.mark.parametrize("kind,hidden", [("GRU", 5), ("AGRU", 5), ("AUGRU", 5), ("AUGRU", 100)])
def test_each_gradient_alone_equals_that_of_all(kind, hidden):
    arguments = case(kind, [3, 0, 2], hidden)
    names = [n for n in LEAVES if n != "attention" or kind != "GRU"]

    def gradients(of):
        made = {n: t.detach().requires_grad_(n in of) if n in LEAVES else t for n, t in arguments.items()}
        return torch.autograd.grad(recurrence(**made)[0].square().sum(), [made[n] for n in of])

    for name, expected in zip(names, gradients(names), strict=True):
        torch.testing.assert_close(gradients([name])[0], expected)


@pytest.mark.parametrize("used", [0, 1])
@pytest.mark.parametrize("hidden", [5, 100])
def test_one_result_alone(used, hidden):
    arguments = case("AUGRU", [3, 0, 2], hidden, dtype=torch.float64)
    weight = arguments["weight_hh"].requires_grad_()
    got, expected = (
        torch.autograd.grad(run(**arguments)[used].sum(), weight)[0]  # a gradient of stride 0
        for run in (recurrence, transcription)
    )
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("hidden", [5, 100])
def test_without_gradients(hidden):
    arguments = case("AUGRU", [3, 0, 2], hidden)
    free = recurrence(**arguments)
    arguments["weight_hh"].requires_grad_()
    kept = recurrence(**arguments)
    with torch.no_grad():
        also_free = recurrence(**arguments)
    assert kept[0].requires_grad and not free[0].requires_grad and not also_free[0].requires_grad
    for run in (free, also_free):
        torch.testing.assert_close(run, tuple(t.detach() for t in kept))


def test_second_derivatives_are_refused():
    arguments = case("AUGRU", [3, 0, 2], 2, dtype=torch.float64)
    x = arguments["x"].requires_grad_()
    (gradient,) = torch.autograd.grad(recurrence(**arguments)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="cannot differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("kind", ["GRU", "AUGRU"])
@pytest.mark.parametrize("learns", [True, False])
def test_is_an_operator_as_torch_wants_one(kind, learns):
    arguments = case(kind, [3, 0, 2], 2)
    if kind == "GRU":
        arguments["attention"] = None
    leaves = [arguments[n] if arguments[n] is None else arguments[n].requires_grad_(learns) for n in LEAVES]
    x, attention, state, weight_ih, weight_hh, bias = leaves
    offsets = arguments["offsets"]
    opcheck(triton_operators.forward, (x, offsets, attention, state, weight_ih, weight_hh, bias, kind, learns))
    if not learns:
        states, final, gates, kept, order = triton_operators.forward(*leaves[:1], offsets, *leaves[1:], kind, True)
        rest = gates, kept, attention, weight_hh, offsets, order, kind
        for given in ((states, final), (states, None), (None, final)):
            opcheck(triton_operators.backward, (*given, *rest, given[0] is None, attention is not None))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dynamic", [True, False])
def test_compiles_as_one_graph(kind, dynamic):
    torch.compiler.reset()
    arguments = case(kind, [3, 0, 2], 5)
    compiled = torch.compile(recurrence, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    expected = outcome(recurrence, arguments)
    for name, got in outcome(compiled, arguments).items():
        torch.testing.assert_close(got, expected[name], rtol=0, atol=0)
    with torch.no_grad():
        assert torch.equal(compiled(**arguments)[0], expected["states"])


@pytest.mark.parametrize("wrap", [lambda run: run, lambda run: torch.compile(run, fullgraph=True, backend="aot_eager")])
def test_autocast(wrap):
    torch.compiler.reset()
    arguments = case("AUGRU", [3, 0, 2], 5)
    low = {n: t.bfloat16() if n in LEAVES else t for n, t in arguments.items()}
    expected = outcome(recurrence, low)
    run = wrap(recurrence)

    def cast(**made):
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            return run(**made)

    got = outcome(cast, arguments)
    for name, value in got.items():
        assert value.dtype == (torch.bfloat16 if name in ("states", "final") else torch.float32)
        torch.testing.assert_close(value, expected[name].to(value), rtol=0, atol=0)
    double = {n: t.double() if n in LEAVES else t for n, t in arguments.items()}
    assert cast(**double)[0].dtype == torch.float64
