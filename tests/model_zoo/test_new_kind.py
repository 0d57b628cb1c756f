"""A recurrence that only the reference has: backends, training, export."""

import logging
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made_exports import SIZES, by_forward, made_dien, made_inputs
from made_recurrence import case, compiled, four_steps, outcome

from dien_fuxictr.serving.export_model import inputs_of, trace
from model_zoo.DIEN.src import DIEN, operators
from model_zoo.DIEN.src.attentional_gru import AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.export_module import PaddedDIEN, loop_evolve, loop_extract
from model_zoo.DIEN.src.kernels import backends, cpu, in_torch, reference, triton
from model_zoo.DIEN.src.layers.packing import Packing

KIND = "NRGRU"


@pytest.fixture(autouse=True)
def new_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add AUGRU with a candidate that ignores the reset gate, as a `gru_type`."""
    kind = reference.Kind(gate=lambda u, a: a * u, candidate=lambda Wi, Uh, b, r: torch.tanh(Wi + Uh + b))
    monkeypatch.setitem(reference.KINDS, KIND, kind)
    monkeypatch.setattr(sys.modules[DIEN.__module__], "evolution_kind", lambda *_: KIND)
    backends._with_kind.cache_clear()
    yield
    backends._with_kind.cache_clear()


def by_hand(inputs, packing, attention, state, weight_ih, weight_hh, bias):
    """Row by row and step by step."""
    W_u, _, W_h = weight_ih.chunk(3)
    U_u, _, U_h = weight_hh.chunk(3)
    b_u, _, b_h = bias.chunk(3)
    states, final = [], []
    for row, h in enumerate(state):
        for n in range(int(packing.offsets[row]), int(packing.offsets[row + 1])):
            u = attention[n] * torch.sigmoid(W_u @ inputs[n] + U_u @ h + b_u)
            h = (1 - u) * h + u * torch.tanh(W_h @ inputs[n] + U_h @ h + b_h)
            states.append(h)
        final.append(h)
    return torch.stack(states), torch.stack(final)


def test_reference_computes_its_equations():
    c = case(torch.float64, 7, 6, 5)
    for got, expected in zip(attentional_gru(**c, kind=KIND, backend="reference"), by_hand(**c), strict=True):
        torch.testing.assert_close(got, expected)


def test_auto_falls_to_the_reference_with_one_line(real_auto, caplog):
    c = case(torch.float64, 7, 6, 5)
    expected = outcome(c, KIND, "reference")
    for name, got in outcome(c, KIND, "auto").items():
        torch.testing.assert_close(got, expected[name])
    gru = AttentionalGRU(4, 4, KIND).double()
    shared, attention, state = torch.randn(3, 4).double(), torch.rand(3, 2).double(), torch.zeros(2, 4).double()
    packing = Packing.of_lengths(torch.tensor([3, 3]))
    _, final = gru(shared.repeat(2, 1), packing, attention.T.flatten(), state)
    torch.testing.assert_close(gru.for_candidates(shared, attention, state), final)
    (line,) = caplog.messages
    assert line == (
        f"recurrence_backend auto is reference for {KIND}, which is slower: {backends.automatic(shared)} lacks it"
    )


@pytest.mark.parametrize("backend", ["torch", "compiled", "triton"])
def test_a_named_backend_that_lacks_it_raises(backend, make_dien):
    message = f"recurrence_backend = '{backend}' has no {KIND}; those that have it: auto, reference"
    with pytest.raises(ValueError, match=message):
        attentional_gru(**case(torch.float32, 2, 3, 4), kind=KIND, backend=backend)
    with pytest.raises(ValueError, match=message):
        AttentionalGRU(4, 4, KIND, backend)


@pytest.mark.parametrize("kernels", [pytest.param(cpu, marks=compiled), triton], ids=["cpu", "triton"])
def test_kernels_compute_no_other_kind(kernels):
    with pytest.raises(ValueError):
        kernels.recurrence(**{**four_steps(), "kind": KIND})


def test_torch_computes_no_other_kind():
    c = case(torch.float32, 2, 3, 4)
    with pytest.raises(KeyError):
        in_torch.recurrence(**c, kind=KIND)
    weights = c["weight_ih"], c["weight_hh"], c["bias"]
    with pytest.raises(KeyError):
        in_torch.evolve_candidates(c["inputs"][:3], torch.ones(3, 2), c["state"], *weights, kind=KIND)


def test_fast_backends_have_no_extra_kinds():
    assert set().union(*backends.KINDS.values()) == reference.KINDS.keys()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_dien_trains_with_it(backend, make_dien):
    model = make_dien(aux_loss_alpha=1.0, recurrence_backend=backend)
    assert model.sequences[0].attention is not None
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, row = made_inputs(model, 6, 5, 12)
    batch = {name: x[row] if x.dim() == 2 else x for name, x in inputs.items()}
    labels = (row % 2).float().unsqueeze(1)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = model.add_loss(model({**batch, "label": labels}), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(
        weight.grad.any() for weight in (model.sequences[0].evolution.weight_hh, model.sequences[0].attention.weight)
    )


def test_its_candidates_are_scored_by_torch(real_auto, caplog):
    caplog.set_level(logging.INFO)
    model = made_dien()
    score = model.scorer()
    assert f"the native scorer lacks {KIND}" in caplog.text
    inputs, row = made_inputs(model, 1, 9, 20)
    user, candidates = ({n: x for n, x in inputs.items() if (x.dim() == 2) == is_user} for is_user in (True, False))
    got = score({n: x.numpy() for n, x in user.items()}, {n: x.numpy() for n, x in candidates.items()}, 20)
    np.testing.assert_allclose(got, by_forward(model, inputs, row), rtol=0, atol=1e-5)


@torch.no_grad()
def test_it_is_exported_without_special_code():
    model = made_dien()
    loops, padded = PaddedDIEN(model, loop_extract, loop_evolve), PaddedDIEN(model, operators.extract, operators.evolve)
    program = trace(loops, inputs_of(model.feature_map, loops)).module()
    for sizes in SIZES[:4]:
        inputs, row = made_inputs(model, *sizes)
        expected = by_forward(model, inputs, row)
        np.testing.assert_allclose(program(inputs, row), expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(padded(inputs, row), expected, rtol=0, atol=1e-5)
