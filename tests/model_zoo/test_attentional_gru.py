"""Operator: a transcription in NumPy, gradients, limits, padding, state."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recurrence import COMPILER
from torch.autograd import gradcheck

from model_zoo.DIEN.src.attentional_gru import AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.kernels.reference import KINDS
from model_zoo.DIEN.src.layers.packing import Packing

AVAILABLE = ["reference", "torch", *(["compiled"] if COMPILER else [])]
ALL = [(kind, backend) for kind in KINDS for backend in AVAILABLE]


def case(rows=4, steps=5, inputs=3, hidden=2, seed=0, lengths=None):
    g = torch.Generator().manual_seed(seed)
    packing = Packing.of_lengths(
        torch.tensor(lengths if lengths is not None else [steps, 1, 0, max(steps - 2, 0)][:rows])
    )
    every = len(packing.row)
    return {
        "inputs": torch.randn(every, inputs, generator=g, dtype=torch.float64),
        "packing": packing,
        "weight_ih": torch.randn(3 * hidden, inputs, generator=g, dtype=torch.float64),
        "weight_hh": torch.randn(3 * hidden, hidden, generator=g, dtype=torch.float64),
        "bias": torch.randn(3 * hidden, generator=g, dtype=torch.float64),
        "attention": torch.rand(every, generator=g, dtype=torch.float64),
        "state": torch.randn(rows, hidden, generator=g, dtype=torch.float64),
    }


def transcription(c, kind):
    """Equations (2)-(5) and (9)-(12), one number at a time in plain numpy."""
    x, a, h0 = c["inputs"].numpy(), c["attention"].numpy(), c["state"].numpy()
    w, v, b = c["weight_ih"].numpy(), c["weight_hh"].numpy(), c["bias"].numpy()
    hidden = h0.shape[1]

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def gate(n, i, h, scale=1.0):
        rows = slice(n * hidden, (n + 1) * hidden)
        return w[rows].dot(i) + scale * v[rows].dot(h) + b[rows]

    states, updates = np.zeros((2, len(x), hidden))
    final = h0.copy()
    offsets = c["packing"].offsets.tolist()
    for row, (begin, end) in enumerate(itertools.pairwise(offsets)):
        h = h0[row]
        for t in range(begin, end):
            i, score = x[t], a[t]
            if kind == "AIGRU":
                i = i * score
            update, reset = sigmoid(gate(0, i, h)), sigmoid(gate(1, i, h))
            new = np.tanh(gate(2, i, h, reset))
            if kind == "AGRU":
                h = (1 - score) * h + score * new
            elif kind == "AUGRU":
                h = (1 - score * update) * h + score * update * new
            elif kind == "AUGRU-tensorflow":
                keep = (1 - score) * (1 - update)
                h = keep * h + (1 - keep) * new
            else:
                h = (1 - update) * h + update * new
            states[t], updates[t] = h, update
        final[row] = h
    return states, final, updates


@pytest.mark.parametrize("kind,backend", ALL)
@pytest.mark.parametrize("rows,steps,inputs,hidden", [(4, 5, 3, 2), (1, 1, 1, 1), (3, 63, 5, 7), (2, 1, 4, 36)])
def test_equals_transcription(kind, backend, rows, steps, inputs, hidden):
    c = case(rows, steps, inputs, hidden)
    states, final = attentional_gru(**c, kind=kind, backend=backend)
    expected_states, expected_final, _ = transcription(c, kind)
    np.testing.assert_allclose(states.numpy(), expected_states, atol=1e-12)
    np.testing.assert_allclose(final.numpy(), expected_final, atol=1e-12)


@pytest.mark.parametrize("kind,backend", ALL)
def test_gradients(kind, backend):
    c = case()
    packing = c.pop("packing")
    names = list(c)

    def run(*tensors):
        return attentional_gru(packing=packing, kind=kind, backend=backend, **dict(zip(names, tensors, strict=True)))

    assert gradcheck(run, [c[name].requires_grad_() for name in names])


@pytest.mark.parametrize("backend", AVAILABLE)
def test_limits(backend):
    c = case()
    plain = attentional_gru(**c, kind="GRU", backend=backend)
    one, zero = {**c, "attention": torch.ones_like(c["attention"])}, {**c, "attention": 0 * c["attention"]}
    for kind in ("AUGRU", "AIGRU"):  # a = 1: the plain GRU
        for got, expected in zip(attentional_gru(**one, kind=kind, backend=backend), plain, strict=True):
            torch.testing.assert_close(got, expected)
    for kind in ("AGRU", "AUGRU-tensorflow"):  # a = 1: the bare candidate
        states, _ = attentional_gru(**one, kind=kind, backend=backend)
        before = torch.where((c["packing"].place == 0).unsqueeze(1), c["packing"].spread(c["state"]), states.roll(1, 0))
        _, W_r, W_h = c["weight_ih"].chunk(3)
        _, U_r, U_h = c["weight_hh"].chunk(3)
        _, b_r, b_h = c["bias"].chunk(3)
        reset = torch.sigmoid(c["inputs"] @ W_r.T + before @ U_r.T + b_r)
        candidate = torch.tanh(c["inputs"] @ W_h.T + reset * (before @ U_h.T) + b_h)
        torch.testing.assert_close(states, candidate)
    for kind in ("AGRU", "AUGRU"):  # a = 0: frozen
        states, final = attentional_gru(**zero, kind=kind, backend=backend)
        assert torch.equal(final, c["state"])
        assert torch.equal(states, c["packing"].spread(c["state"]))
    for got, expected in zip(attentional_gru(**zero, kind="AUGRU-tensorflow", backend=backend), plain, strict=True):
        torch.testing.assert_close(got, expected)
    blind = attentional_gru(**{**c, "inputs": 0 * c["inputs"]}, kind="GRU", backend=backend)
    for got, expected in zip(attentional_gru(**zero, kind="AIGRU", backend=backend), blind, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind,backend", ALL)
@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 6), seed=st.integers(0, 99))
def test_going_on_from_a_state_equals_one_run(kind, backend, cut, seed):
    c = case(rows=3, steps=6, seed=seed, lengths=[6, 6, 6])
    states, final = attentional_gru(**c, kind=kind, backend=backend)
    first = c["packing"].place < cut
    state, parts = c.pop("state"), []
    for steps in (first, ~first):
        part = {
            **c,
            "inputs": c["inputs"][steps],
            "attention": c["attention"][steps],
            "packing": Packing.of_lengths(torch.bincount(c["packing"].row[steps], minlength=3)),
        }
        got, state = attentional_gru(**part, state=state, kind=kind, backend=backend)
        parts.append(got)
    torch.testing.assert_close(parts[0], states[first])
    torch.testing.assert_close(parts[1], states[~first])
    torch.testing.assert_close(state, final)


def test_plain_gru_equals_torch():
    gru = AttentionalGRU(3, 4, "GRU").double()
    torch_gru = torch.nn.GRU(3, 4, batch_first=True).double()
    with torch.no_grad():
        for ours, theirs in (
            (gru.weight_ih, torch_gru.weight_ih_l0),
            (gru.weight_hh, torch_gru.weight_hh_l0),
            (gru.bias, torch_gru.bias_ih_l0),
        ):
            u, r, h = ours.chunk(3)
            theirs.copy_(torch.cat([r, -u, h]))
        torch_gru.bias_hh_l0.zero_()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    states, final = gru(x.flatten(0, 1), Packing.of_lengths(torch.tensor([5, 5])))
    expected, last = torch_gru(x)
    torch.testing.assert_close(states, expected.flatten(0, 1))
    torch.testing.assert_close(final, last[0])


@pytest.mark.parametrize("kind", KINDS)
def test_update_gate_is_that_of_the_equations(kind):
    c = case()
    c["state"] = torch.zeros_like(c["state"])
    gru = AttentionalGRU(3, 2, kind).double()
    gru.load_state_dict({name: c[name] for name, _ in gru.named_parameters()})
    states, _ = gru(c["inputs"], c["packing"], c["attention"])
    gate = gru.update_gate(c["inputs"], c["packing"], states, c["attention"])
    np.testing.assert_allclose(gate.detach().numpy(), transcription(c, kind)[2], atol=1e-12)


def test_refuses_what_it_does_not_know():
    c = case()
    with pytest.raises(ValueError, match="kind='LSTM' is unknown; allowed: GRU"):
        attentional_gru(**c, kind="LSTM")
    with pytest.raises(ValueError, match="backend='fast' is unknown; allowed: auto, reference"):
        attentional_gru(**c, backend="fast")
    with pytest.raises(ValueError, match="needs attention"):
        attentional_gru(**{**c, "attention": None}, kind="AUGRU")


@pytest.mark.parametrize("kind", KINDS)
def test_no_steps(kind):
    c = case(rows=2, steps=0, lengths=[0, 0])
    states, final = attentional_gru(**c, kind=kind)
    assert states.shape == (0, 2)
    assert torch.equal(final, c["state"])
