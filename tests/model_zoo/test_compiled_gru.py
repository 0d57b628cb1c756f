"""Features of the compiled recurrence alone: threads, memory, checks, vectors."""

import threading

import pytest
import torch
from made_recurrence import NARROW, WRONG_WEIGHTS, case, check_against_reference, compiled, four_steps

from model_zoo.DIEN.src.kernels import cpu
from model_zoo.DIEN.src.kernels.cpu import gru, recurrence
from model_zoo.DIEN.src.kernels.cpu.workspace import Pool


def packed(c, kind="AUGRU"):
    """Return the arguments of ``recurrence``."""
    return {
        "x": c["inputs"],
        "offsets": c["packing"].offsets,
        "kind": kind,
        **{n: c[n] for n in ("attention", "state", "weight_ih", "weight_hh", "bias")},
    }


@compiled
def test_threads_do_not_change_states():
    arguments = packed(case(torch.float32, 300, 20, 36))
    one = recurrence(**arguments)
    torch.set_num_threads(2)
    assert all(map(torch.equal, recurrence(**arguments), one))


@compiled
@pytest.mark.parametrize(
    "lengths,threads,rows_per_block,steps",
    [
        ([5] * 128, 2, 32, [5, 5, 5, 5]),
        ([1] * 70 + [9] + [1] * 57, 2, 16, [9, 1, 1, 1, 1, 1, 1, 1]),  # one thread would have 9 of 12 rows
        ([1] * 70 + [9] + [1] * 57, 1, 32, [9, 1, 1, 1]),
        ([3] * 20, 2, 16, [3, 3]),
        ([], 2, 32, []),
    ],
)
def test_no_block_keeps_the_other_threads_waiting(lengths, threads, rows_per_block, steps):
    torch.set_num_threads(threads)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    order, first_step, size = gru._plan(offsets, sum(lengths))
    assert size == rows_per_block
    assert first_step.diff().tolist() == steps and first_step[0] == 0
    assert [lengths[row] for row in order] == sorted(lengths, reverse=True)


@compiled
def test_threads_of_the_caller_do_not_meet():
    cases = [packed(case(torch.float32, 200, 40, 36, seed=seed)) for seed in range(4)]

    def run(arguments):
        weight = arguments["weight_hh"].clone().requires_grad_()
        return torch.autograd.grad(recurrence(**{**arguments, "weight_hh": weight})[0].square().sum(), weight)[0]

    expected = [run(arguments) for arguments in cases]
    wrong = []

    def work(number):
        wrong.extend(number for _ in range(5) if not torch.equal(run(cases[number]), expected[number]))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@compiled
def test_graphs_that_live_at_once_keep_their_own():
    arguments = packed(case(torch.float32, 200, 40, 36))  # large enough for pooled memory
    weights = [arguments["weight_hh"].mul(scale).requires_grad_() for scale in (1, 0.5)]

    def loss(weight):
        return recurrence(**{**arguments, "weight_hh": weight})[0].square().sum()

    expected = [torch.autograd.grad(loss(weight), weight)[0] for weight in weights]
    losses = [loss(weight) for weight in weights]
    for alive, weight, gradient in zip(losses, weights, expected, strict=True):
        for _ in range(2):
            assert torch.equal(torch.autograd.grad(alive, weight, retain_graph=True)[0], gradient)


def test_pool_gives_memory_again_once_nothing_refers_to_it():
    pool = Pool()
    first, second = pool.empty(1 << 20, torch.float32), pool.empty(1 << 20, torch.float32)
    address = first.data_ptr()
    assert second.data_ptr() != address
    view = first[5:]
    del first
    assert pool.empty(1 << 20, torch.float32).data_ptr() not in (address, second.data_ptr())
    del view
    smaller = pool.empty(1 << 19, torch.float32)
    assert smaller.data_ptr() != second.data_ptr()
    assert smaller.shape == (1 << 19,) and smaller.dtype == torch.float32


def test_pool_replaces_what_has_become_too_small():
    pool = Pool()
    for size in (1 << 20, 1 << 21, 1 << 22):
        pool.empty(size, torch.float64)
    assert len(pool._free) == 1


@compiled
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_its_row(dtype, value):
    arguments = packed(case(dtype, 40, 4, 5), "AUGRU")
    states, final = recurrence(**arguments)
    begin, end = arguments["offsets"][-2:]
    arguments["x"] = arguments["x"].clone()
    arguments["x"][begin, 0] = value
    other_states, other_final = recurrence(**arguments)
    assert torch.equal(other_states[:begin], states[:begin]) and torch.equal(other_final[:-1], final[:-1])
    assert end == len(states)
    if value != value:
        assert other_final[-1].isnan().all()


@compiled
@pytest.mark.parametrize(
    "name,value,message",
    [
        ("offsets", torch.tensor([0, 2, 1, 4]), "offsets must rise from 0"),
        ("offsets", torch.tensor([0, 1, 2, 3]), "offsets must rise from 0"),
        ("offsets", torch.tensor([1, 2, 3, 4]), "offsets must rise from 0"),
        ("attention", torch.ones(3), r"attention must be \(4,\), torch.float32 on a CPU, is \(3,\)"),
        ("attention", None, r"attention must be \(4,\), torch.float32 on a CPU, is None"),
        *WRONG_WEIGHTS,
        ("bias", torch.ones(6, device="meta"), "bias must be .* on a CPU, is .* on meta"),
        ("x", torch.ones(4, 5, dtype=torch.float16), "x is torch.float16; allowed: torch.float32, torch.float64"),
    ],
)
def test_refuses_what_it_cannot_take(name, value, message):
    with pytest.raises(ValueError, match=message):
        recurrence(**{**four_steps(), name: value})


@compiled
@pytest.mark.parametrize("flags", NARROW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_reference_with_narrow_vectors(monkeypatch, flags, dtype):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for kind, hidden in zip(cpu.KINDS, (1, 7, 36, 37, 64), strict=True):
        check_against_reference(case(dtype, 33, 10, hidden), kind, "compiled")
