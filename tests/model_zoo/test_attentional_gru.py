"""The operator: against an independent transcription in numpy, gradients, limits, padding, state."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from model_zoo.DIEN.src.layers.attentional_gru import BACKENDS, KINDS, AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.layers.compiled.build import build

try:
    build()
    AVAILABLE = list(BACKENDS)
except RuntimeError:  # no C++ compiler
    AVAILABLE = [name for name in BACKENDS if name != "compiled"]
ALL = [(kind, backend) for kind in KINDS for backend in AVAILABLE]


def case(rows=4, steps=5, inputs=3, hidden=2, seed=0, lengths=None):
    g = torch.Generator().manual_seed(seed)
    lengths = torch.tensor(lengths if lengths is not None else [steps, 1, 0, max(steps - 2, 0)][:rows])
    return {
        "inputs": torch.randn(rows, steps, inputs, generator=g, dtype=torch.float64),
        "mask": torch.arange(steps) < lengths.unsqueeze(1),
        "weight_ih": torch.randn(3 * hidden, inputs, generator=g, dtype=torch.float64),
        "weight_hh": torch.randn(3 * hidden, hidden, generator=g, dtype=torch.float64),
        "bias": torch.randn(3 * hidden, generator=g, dtype=torch.float64),
        "attention": torch.rand(rows, steps, generator=g, dtype=torch.float64),
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

    states = np.zeros((*x.shape[:2], hidden))
    final = h0.copy()
    for row in range(len(x)):
        h = h0[row]
        for t in range(int(c["mask"][row].sum())):
            i, score = x[row, t], a[row, t]
            if kind == "AIGRU":
                i = i * score
            update, reset = sigmoid(gate(0, i, h)), sigmoid(gate(1, i, h))
            new = np.tanh(gate(2, i, h, reset))
            if kind == "AGRU":
                h = (1 - score) * h + score * new
            elif kind == "AUGRU":
                h = (1 - score * update) * h + score * update * new
            elif kind == "AUGRU-code":
                keep = (1 - score) * (1 - update)
                h = keep * h + (1 - keep) * new
            else:
                h = (1 - update) * h + update * new
            states[row, t] = h
        final[row] = h
    return states, final


@pytest.mark.parametrize("kind,backend", ALL)
@pytest.mark.parametrize("rows,steps,inputs,hidden", [(4, 5, 3, 2), (1, 1, 1, 1), (3, 63, 5, 7), (2, 1, 4, 36)])
def test_equals_transcription(kind, backend, rows, steps, inputs, hidden):
    c = case(rows, steps, inputs, hidden)
    states, final = attentional_gru(**c, kind=kind, backend=backend)
    expected_states, expected_final = transcription(c, kind)
    np.testing.assert_allclose(states.numpy(), expected_states, atol=1e-12)
    np.testing.assert_allclose(final.numpy(), expected_final, atol=1e-12)


@pytest.mark.parametrize("kind,backend", ALL)
def test_gradients(kind, backend):
    c = case()
    mask = c.pop("mask")
    names = list(c)

    def run(*tensors):
        return attentional_gru(mask=mask, kind=kind, backend=backend, **dict(zip(names, tensors, strict=True)))

    assert gradcheck(run, [c[name].requires_grad_() for name in names])


@pytest.mark.parametrize("kind", KINDS)
def test_backends_agree_with_every_gradient_of_the_reference(kind):
    gradients = {}
    for backend in AVAILABLE:
        c = {name: x.clone().requires_grad_(x.is_floating_point()) for name, x in case(steps=7, seed=3).items()}
        states, final = attentional_gru(**c, kind=kind, backend=backend)
        (states.square().sum() + final.sum()).backward()
        gradients[backend] = {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in c.items() if n != "mask"}
    for backend in AVAILABLE:
        for name, expected in gradients["reference"].items():
            torch.testing.assert_close(gradients[backend][name], expected, msg=f"{backend} {name}")


@pytest.mark.parametrize("backend", AVAILABLE)
def test_limits(backend):
    c = case()
    plain = attentional_gru(**c, kind="GRU", backend=backend)
    one, zero = {**c, "attention": torch.ones_like(c["attention"])}, {**c, "attention": 0 * c["attention"]}
    for kind in ("AUGRU", "AIGRU"):  # a = 1: the plain GRU
        for got, expected in zip(attentional_gru(**one, kind=kind, backend=backend), plain, strict=True):
            torch.testing.assert_close(got, expected)
    for kind in ("AGRU", "AUGRU-code"):  # a = 1: the bare candidate
        states, _ = attentional_gru(**one, kind=kind, backend=backend)
        previous = torch.cat([c["state"].unsqueeze(1), states[:, :-1]], dim=1)
        _, W_r, W_h = c["weight_ih"].chunk(3)
        _, U_r, U_h = c["weight_hh"].chunk(3)
        _, b_r, b_h = c["bias"].chunk(3)
        reset = torch.sigmoid(c["inputs"] @ W_r.T + previous @ U_r.T + b_r)
        candidate = torch.tanh(c["inputs"] @ W_h.T + reset * (previous @ U_h.T) + b_h)
        torch.testing.assert_close(states[c["mask"]], candidate[c["mask"]])
    for kind in ("AGRU", "AUGRU"):  # a = 0: frozen
        states, final = attentional_gru(**zero, kind=kind, backend=backend)
        assert torch.equal(final, c["state"])
        assert torch.equal(states, c["state"].unsqueeze(1) * c["mask"].unsqueeze(-1))
    for got, expected in zip(attentional_gru(**zero, kind="AUGRU-code", backend=backend), plain, strict=True):
        torch.testing.assert_close(got, expected)
    blind = attentional_gru(**{**c, "inputs": 0 * c["inputs"]}, kind="GRU", backend=backend)
    for got, expected in zip(attentional_gru(**zero, kind="AIGRU", backend=backend), blind, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind,backend", ALL)
def test_nan_in_padding_changes_no_output_and_no_gradient(kind, backend):
    def run(poison):
        c = {n: x.clone() for n, x in case(seed=1).items()}
        if poison:
            c["inputs"][~c["mask"]] = float("nan")
            c["attention"][~c["mask"]] = float("nan")
        leaves = {n: x.requires_grad_() for n, x in c.items() if n != "mask"}
        states, final = attentional_gru(**c, kind=kind, backend=backend)
        (states.square().sum() + final.square().sum()).backward()
        return [states, final, *(x.grad for x in leaves.values() if x.grad is not None)]

    for got, expected in zip(run(True), run(False), strict=True):
        assert torch.equal(got, expected)


@pytest.mark.parametrize("kind,backend", ALL)
@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 6), seed=st.integers(0, 99))
def test_going_on_from_a_state_equals_one_run(kind, backend, cut, seed):
    c = case(rows=3, steps=6, seed=seed, lengths=[6, 6, 6])
    states, final = attentional_gru(**c, kind=kind, backend=backend)
    part = {n: c[n] for n in ("weight_ih", "weight_hh", "bias")}
    head, middle = attentional_gru(c["inputs"][:, :cut], c["mask"][:, :cut], **part, kind=kind, backend=backend,
                                   attention=c["attention"][:, :cut], state=c["state"])
    tail, end = attentional_gru(c["inputs"][:, cut:], c["mask"][:, cut:], **part, kind=kind, backend=backend,
                                attention=c["attention"][:, cut:], state=middle)
    torch.testing.assert_close(torch.cat([head, tail], dim=1), states)
    torch.testing.assert_close(end, final)


def test_plain_gru_equals_torch():
    gru = AttentionalGRU(3, 4, "GRU").double()
    torch_gru = torch.nn.GRU(3, 4, batch_first=True).double()
    with torch.no_grad():
        for ours, theirs in ((gru.weight_ih, torch_gru.weight_ih_l0), (gru.weight_hh, torch_gru.weight_hh_l0),
                             (gru.bias, torch_gru.bias_ih_l0)):
            u, r, h = ours.chunk(3)
            theirs.copy_(torch.cat([r, -u, h]))
        torch_gru.bias_hh_l0.zero_()
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    states, final = gru(x, torch.ones(2, 5, dtype=torch.bool))
    expected, last = torch_gru(x)
    torch.testing.assert_close(states, expected)
    torch.testing.assert_close(final, last[0])


def test_update_gate_is_the_one_that_made_the_states():
    gru = AttentionalGRU(3, 4, "AGRU").double()
    plain = AttentionalGRU(3, 4, "GRU").double()
    plain.load_state_dict(gru.state_dict())
    x, mask = torch.randn(2, 5, 3, dtype=torch.float64), torch.ones(2, 5, dtype=torch.bool)
    states, _ = plain(x, mask)
    gate = plain.update_gate(x, states)
    bare, _ = attentional_gru(x[:, :1], mask[:, :1], *plain.parameters(), kind="AGRU", attention=0 * x[:, :1, 0] + 1)
    torch.testing.assert_close(states[:, 0], gate[:, 0] * bare[:, 0])  # the first state: u times the candidate
    assert gate.shape == states.shape


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
    assert states.shape == (2, 0, 2)
    assert torch.equal(final, c["state"])
