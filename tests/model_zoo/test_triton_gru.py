"""Kernels in Triton against the equations. Interpreted where there is no GPU."""

import pytest
import torch
from made_triton import DEVICE, case, check, outcome, ragged

from model_zoo.DIEN.src.attentional_gru import attentional_gru
from model_zoo.DIEN.src.kernels.triton import KINDS, kernel_launch, recurrence
from model_zoo.DIEN.src.layers.packing import Packing

# Each pair of values occurs.
SIZES = [
    (kind, (1, 2, 33)[(i + j) % 3], (1, 2, 10)[(i + 2 * j) % 3], hidden)
    for i, kind in enumerate(KINDS)
    for j, hidden in enumerate((1, 7, 36, 37, 64))
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind,rows,steps,hidden", SIZES)
def test_equals_the_equations(kind, rows, steps, hidden, dtype):
    check(case(kind, ragged(rows, steps), hidden, dtype=dtype))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_tiled_kernel_equals_the_equations(kind, dtype):
    hidden = 150 if dtype == torch.float16 else 100
    arguments = case(kind, [3, 0, 1, 2], hidden, dtype=dtype)
    assert not kernel_launch.is_resident(arguments["weight_hh"])
    check(arguments)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits(kind, dtype):
    check(case(kind, ragged(20, 10), 37, dtype=dtype))


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows,steps,hidden", [(100, 100, 36), (300, 20, 64), (40, 5, 128), (20, 3, 512)])
def test_equals_the_equations_at_large_sizes(kind, rows, steps, hidden):
    check(case(kind, ragged(rows, steps), hidden))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference_backend(kind):
    lengths = ragged(18, 6)
    arguments = case(kind, lengths, 5, dtype=torch.float64)
    rest = {n: arguments[n] for n in ("attention", "state", "weight_ih", "weight_hh", "bias", "kind")}
    packing = Packing.of_lengths(torch.tensor(lengths, device=DEVICE))
    expected = attentional_gru(arguments["x"], packing, **rest, backend="reference")
    for got in (recurrence(**arguments), attentional_gru(arguments["x"], packing, **rest, backend="triton")):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [6, 100])
@pytest.mark.parametrize("lengths", [[], [0], [0, 0, 0], [0, 5, 0, 5, 1]])
def test_empty_rows(kind, hidden, lengths):
    arguments = case(kind, lengths, hidden)
    check(arguments)
    empty = torch.tensor(lengths, device=DEVICE) == 0
    assert torch.equal(recurrence(**arguments)[1][empty], arguments["state"][empty])


@pytest.mark.parametrize("hidden", [6, 100])
def test_limits_of_attention(hidden):
    arguments = case("GRU", [3, 0, 1], hidden)
    plain = recurrence(**arguments)
    for value, kind in ((1, "AUGRU"), (1, "AIGRU"), (0, "AUGRU-tensorflow")):
        got = recurrence(**{**arguments, "attention": torch.full_like(arguments["attention"], value), "kind": kind})
        torch.testing.assert_close(got, plain)
    for kind in ("AGRU", "AUGRU"):
        _, final = recurrence(**{**arguments, "attention": torch.zeros_like(arguments["attention"]), "kind": kind})
        assert torch.equal(final, arguments["state"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [5, 100])
def test_reads_no_memory_that_it_has_not_written(kind, hidden):
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch then fills new memory with NaN
    try:
        assert torch.empty(1, device=DEVICE).isnan()
        check(case(kind, [2, 0, 1], hidden))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.parametrize("hidden", [5, 100])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
def test_what_is_not_finite_stays_in_its_row(hidden, value):
    arguments = case("AUGRU", [4, 1, 0, 2], hidden)
    arguments["attention"] = arguments["attention"] * 0 + 0.5

    def run():
        state = arguments["state"].detach().requires_grad_()
        states, final = recurrence(**{**arguments, "state": state})
        return states.detach(), final.detach(), torch.autograd.grad(states.sum() + final.sum(), state)[0]

    states, final, d_state = run()
    arguments["x"][0, 0] = value
    other_states, other_final, other_d_state = run()
    assert torch.equal(other_states[4:], states[4:])
    assert torch.equal(other_final[1:], final[1:]) and torch.equal(other_d_state[1:], d_state[1:])
    if value != value:
        assert other_final[0].isnan().all()


def test_runs_agree_in_every_bit():
    arguments = case("AUGRU", ragged(40, 10), 36)
    first = outcome(recurrence, arguments)
    for name, again in outcome(recurrence, arguments).items():
        assert torch.equal(again, first[name]), name


def test_precision_of_float32_is_that_of_torch():
    before = torch.get_float32_matmul_precision()
    try:
        for allowed, precision in (("highest", "tf32x3"), ("high", "tf32")):
            torch.set_float32_matmul_precision(allowed)
            assert kernel_launch.precision(torch.float32) == precision
            assert kernel_launch.precision(torch.bfloat16) == kernel_launch.precision(torch.float64) == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)
