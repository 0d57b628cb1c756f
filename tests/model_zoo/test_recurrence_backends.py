"""Every backend of the recurrence, compared with the reference at many sizes."""

import copy
import math

import pytest
import torch
from made_recurrence import FAST, SIZES, case, check_against_reference, leaves_of, outcome, pairwise
from torch.autograd import gradcheck

from model_zoo.DIEN.src.attentional_gru import AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.kernels.reference import KINDS
from model_zoo.DIEN.src.layers.packing import Packing

pytestmark = pytest.mark.parametrize("backend", FAST)


@pytest.mark.parametrize("kind,dtype,rows,steps,hidden", pairwise(SIZES, size=lambda case: math.prod(case[2:])))
def test_equals_the_reference(backend, kind, dtype, rows, steps, hidden):
    check_against_reference(case(dtype, rows, steps, hidden), kind, backend)


@pytest.mark.full
@pytest.mark.parametrize("kind,dtype,rows,steps,hidden", SIZES)
def test_equals_the_reference_at_every_size(backend, kind, dtype, rows, steps, hidden):
    check_against_reference(case(dtype, rows, steps, hidden), kind, backend)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lengths", [[0, 0, 0], [0], [3], [0, 5, 0, 5, 1]])
def test_empty_rows(backend, kind, lengths):
    c = case(torch.float64, len(lengths), 5, 6, lengths=lengths)
    check_against_reference(c, kind, backend)
    _, final = attentional_gru(**c, kind=kind, backend=backend)
    empty = torch.tensor(lengths) == 0
    assert torch.equal(final[empty], c["state"][empty])


def test_no_rows(backend):
    c = case(torch.float32, 2, 3, 4)
    c |= {
        "inputs": c["inputs"][:0],
        "attention": c["attention"][:0],
        "state": c["state"][:0],
        "packing": Packing.of_lengths(torch.zeros(0, dtype=torch.int64)),
    }
    states, final = attentional_gru(**c, backend=backend)
    assert states.shape == (0, 4) and final.shape == (0, 4)


@pytest.mark.parametrize("hidden", [256, 512])
def test_large_states(backend, hidden):
    check_against_reference(case(torch.float32, 40, 3, hidden), "AUGRU", backend)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(backend, kind):
    c = case(torch.float64, 5, 3, 3, inputs=2, lengths=[3, 0, 1, 2, 0])
    leaves = leaves_of(c)

    def run(*tensors):
        return attentional_gru(**{**c, **dict(zip(leaves, tensors, strict=True))}, kind=kind, backend=backend)

    assert gradcheck(run, [x.requires_grad_() for x in leaves.values()])


@pytest.mark.parametrize("kind", ["GRU", "AGRU", "AUGRU"])
def test_each_gradient_alone_equals_that_of_all(backend, kind):
    c = case(torch.float64, 6, 5, 4)
    leaves = leaves_of(c)
    names = [name for name in leaves if name != "attention" or kind != "GRU"]

    def gradients(of):
        for name, x in leaves.items():
            c[name] = x.detach().requires_grad_(name in of)
        states, _ = attentional_gru(**c, kind=kind, backend=backend)
        return torch.autograd.grad(states.square().sum(), [c[name] for name in of])

    for name, expected in zip(names, gradients(names), strict=True):
        torch.testing.assert_close(gradients([name])[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("used", ["states", "final"])
def test_one_output_alone(backend, used):
    c = case(torch.float64, 6, 5, 4)
    gradients = {}
    for name in ("reference", backend):
        weight = c["weight_hh"].clone().requires_grad_()
        states, final = attentional_gru(**{**c, "weight_hh": weight}, backend=name)
        gradients[name] = torch.autograd.grad((states if used == "states" else final).sum(), weight)[0]
    torch.testing.assert_close(gradients[backend], gradients["reference"])


def test_without_gradients(backend):
    c = case(torch.float32, 6, 5, 4)
    c["weight_hh"].requires_grad_()
    kept = attentional_gru(**c, backend=backend)
    with torch.no_grad():
        free = attentional_gru(**c, backend=backend)
    assert kept[0].requires_grad and not free[0].requires_grad
    assert all(map(torch.equal, kept, free))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["GRU", "AUGRU"])
def test_runs_agree_in_every_bit(backend, kind, threads):
    torch.set_num_threads(threads)  # the fixture of all tests resets it
    c = case(torch.float32, 300, 20, 36)
    first = outcome(c, kind, backend)
    for _ in range(5):
        for name, again in outcome(c, kind, backend).items():
            assert torch.equal(again, first[name]), name


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16])
def test_autocast_leaves_the_recurrence_as_it_is(backend, given):
    """Layers before it leave their results in either type."""
    if backend == "compiled" and given != torch.float32:
        pytest.skip("auto is torch for such inputs")
    c = case(torch.float32, 6, 5, 4)
    c |= {name: c[name].bfloat16().float() for name in ("inputs", "attention", "state")}
    expected = attentional_gru(**c, backend=backend)
    weight = c["weight_hh"].requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = {name: c[name].to(given) for name in ("inputs", "attention", "state")}
        got = attentional_gru(**{**c, **lowered}, backend=backend)
    for one, right in zip(got, expected, strict=True):
        assert torch.equal(one, right)
    gradient = torch.autograd.grad(got[0].sum(), weight)[0]
    assert torch.equal(gradient, torch.autograd.grad(attentional_gru(**c, backend=backend)[0].sum(), weight)[0])


def test_second_derivatives_are_refused(backend):
    c = case(torch.float64, 4, 3, 2)
    x = c["inputs"].requires_grad_()
    states, _ = attentional_gru(**c, backend=backend)
    (gradient,) = torch.autograd.grad(states.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


def test_a_row_does_not_depend_on_others(backend):
    c = case(torch.float64, 40, 4, 5)
    states, final = attentional_gru(**c, backend=backend)
    begin = c["packing"].offsets[-2]
    c["inputs"] = c["inputs"].clone()
    c["inputs"][begin, 0] = float("nan")
    other_states, other_final = attentional_gru(**c, backend=backend)
    assert torch.equal(other_states[:begin], states[:begin]) and torch.equal(other_final[:-1], final[:-1])
    assert other_final[-1].isnan().all()


def test_the_module_copies_and_loads(backend):
    c = case(torch.float32, 4, 5, 6, inputs=3)
    gru, other = AttentionalGRU(3, 6, backend=backend), AttentionalGRU(3, 6, backend="reference")
    other.load_state_dict(gru.state_dict())
    run = [module(c["inputs"], c["packing"], c["attention"]) for module in (gru, copy.deepcopy(gru), other)]
    assert all(map(torch.equal, run[0], run[1]))
    torch.testing.assert_close(run[0], run[2])
