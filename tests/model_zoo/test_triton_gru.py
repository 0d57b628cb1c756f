"""The kernels in Triton: against the equations, and as operators of torch. Interpreted where there is no GPU."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import gradcheck
from torch.library import opcheck

from model_zoo.DIEN.src.layers import backends
from model_zoo.DIEN.src.layers.attentional_gru import attentional_gru
from model_zoo.DIEN.src.layers.kinds import KINDS
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.triton_gpu import launch, operators, recurrence

try:
    import triton  # noqa: F401
except ModuleNotFoundError:
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        raise
    pytest.skip("triton is for Linux on x86_64", allow_module_level=True)

ROOT = Path(__file__).parents[2]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 3e-2, torch.float16: 4e-3}
LEAVES = ("x", "attention", "state", "weight_ih", "weight_hh", "bias")
# Each pair of values occurs.
SIZES = [
    (kind, (1, 2, 33)[(i + j) % 3], (1, 2, 10)[(i + 2 * j) % 3], hidden)
    for i, kind in enumerate(KINDS)
    for j, hidden in enumerate((1, 7, 36, 37, 64))
]


def case(kind, lengths, hidden, inputs=None, dtype=torch.float32, seed=0):
    """The arguments of ``recurrence``: attention is 0 or 1 here and there, nothing is contiguous."""
    g = torch.Generator().manual_seed(seed)
    inputs = inputs or (1, 5, 36, 70)[hidden % 4]
    rows, steps = len(lengths), sum(lengths)
    offsets = torch.tensor([0, *lengths]).cumsum(0).repeat_interleave(2)[::2]
    tensors = {
        "x": torch.randn(inputs, steps, generator=g).t(),
        "attention": (torch.rand(2 * steps, generator=g) * 1.4 - 0.2).clamp(0, 1)[::2],
        "state": torch.randn(hidden, rows, generator=g).t(),
        "weight_ih": torch.randn(inputs, 3 * hidden, generator=g).t() / inputs**0.5,
        "weight_hh": torch.randn(hidden, 3 * hidden, generator=g).t() / hidden**0.5,
        "bias": torch.randn(6 * hidden, generator=g)[::2] / 2,
    }
    return {"offsets": offsets.to(DEVICE), **{n: t.to(DEVICE, dtype) for n, t in tensors.items()}, "kind": kind}


def ragged(rows, steps):
    """Lengths from 0 to ``steps``, both of which occur where there are two rows."""
    some = torch.randint(0, steps + 1, (rows,), generator=torch.Generator().manual_seed(rows))
    return [steps, 0, *some.tolist()][:rows]


def transcription(x, offsets, attention, state, weight_ih, weight_hh, bias, kind):
    """Equations (2)-(5) and (9)-(12), row by row and step by step."""
    W_u, W_r, W_h = weight_ih.chunk(3)
    U_u, U_r, U_h = weight_hh.chunk(3)
    b_u, b_r, b_h = bias.chunk(3)
    states, final = [state[:0]], [state[:0]]
    for row, h in enumerate(state):
        for n in range(int(offsets[row]), int(offsets[row + 1])):
            a, i = attention[n], x[n]
            if kind == "AIGRU":
                i = a * i
            u = torch.sigmoid(W_u @ i + U_u @ h + b_u)
            r = torch.sigmoid(W_r @ i + U_r @ h + b_r)
            candidate = torch.tanh(W_h @ i + r * (U_h @ h) + b_h)
            gate = {"AGRU": a, "AUGRU": a * u, "AUGRU-code": a + u - a * u}.get(kind, u)
            h = (1 - gate) * h + gate * candidate
            states.append(h.unsqueeze(0))
        final.append(h.unsqueeze(0))
    return torch.cat(states), torch.cat(final)


def outcome(run, arguments, dtype=None):
    """States, final and the gradient of each leaf that there is one of."""
    made = {n: t.detach().to(dtype or t.dtype).requires_grad_() if n in LEAVES else t for n, t in arguments.items()}
    states, final = run(**made)
    g = torch.Generator().manual_seed(9)
    loss = sum((t * torch.randn(t.shape, generator=g).to(t)).sum() for t in (states, final))
    leaves = [n for n in LEAVES if n != "attention" or made["kind"] != "GRU"]
    gradients = torch.autograd.grad(loss, [made[n] for n in leaves], allow_unused=True)
    return {"states": states.detach(), "final": final.detach(), **dict(zip(leaves, gradients, strict=True))}


def check(arguments):
    """Against the transcription in float64."""
    tolerance = TOLERANCE[arguments["x"].dtype]
    expected = outcome(transcription, arguments, torch.float64)
    for name, got in outcome(recurrence, arguments).items():
        right = torch.zeros_like(got, dtype=torch.float64) if expected[name] is None else expected[name]
        assert got.shape == right.shape and got.dtype == arguments["x"].dtype, name
        if got.numel():
            error, bound = (got.double() - right).abs().max().item(), tolerance * max(1, right.abs().max().item())
            assert error <= bound, f"{name}: {error} > {bound}"  # false for NaN, too


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind,rows,steps,hidden", SIZES)
def test_equals_the_equations(kind, rows, steps, hidden, dtype):
    check(case(kind, ragged(rows, steps), hidden, dtype=dtype))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_equals_the_equations_where_the_weights_do_not_fit_on_chip(kind, dtype):
    hidden = 150 if dtype == torch.float16 else 100
    arguments = case(kind, [3, 0, 1, 2], hidden, dtype=dtype)
    assert not launch.is_resident(arguments["weight_hh"])
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
    for value, kind in ((1, "AUGRU"), (1, "AIGRU"), (0, "AUGRU-code")):
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
    opcheck(operators.forward, (x, offsets, attention, state, weight_ih, weight_hh, bias, kind, learns))
    if not learns:
        states, final, gates, kept, order = operators.forward(*leaves[:1], offsets, *leaves[1:], kind, True)
        for given in ((states, final), (states, None), (None, final)):
            opcheck(
                operators.backward,
                (
                    *given,
                    gates,
                    kept,
                    attention,
                    weight_hh,
                    offsets,
                    order,
                    kind,
                    given[0] is None,
                    attention is not None,
                ),
            )


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
            assert launch.precision(torch.float32) == precision
            assert launch.precision(torch.bfloat16) == launch.precision(torch.float64) == "ieee"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("attention", torch.ones(3), r"attention must be \(4,\), torch.float32 on .*, is \(3,\)"),
        ("attention", None, r"attention must be \(4,\), torch.float32 on .*, is None"),
        ("state", torch.ones(2, 2), r"state must be \(3, 2\)"),
        ("weight_ih", torch.ones(6, 4), r"weight_ih must be \(6, 5\)"),
        ("weight_hh", torch.ones(6, 2, dtype=torch.float64), "weight_hh must be .* is .* torch.float64"),
        ("bias", torch.ones(6, device="meta"), "bias must be .* is .* on meta"),
        ("x", torch.ones(4, 5, dtype=torch.int64), "x is torch.int64; allowed: torch.float32, torch.bfloat16"),
        ("offsets", torch.tensor([0, 2, 2, 4], dtype=torch.int32), r"offsets must be \(4,\), torch.int64"),
    ],
)
def test_refuses_what_it_cannot_take(name, value, message):
    arguments = {
        "x": torch.ones(4, 5),
        "offsets": torch.tensor([0, 2, 2, 4]),
        "attention": torch.ones(4),
        "state": torch.ones(3, 2),
        "weight_ih": torch.ones(6, 5),
        "weight_hh": torch.ones(6, 2),
        "bias": torch.ones(6),
    }
    with pytest.raises(ValueError, match=message):
        recurrence(**{**arguments, name: value}, kind="AUGRU")
    with pytest.raises(ValueError, match="kind='LSTM' is unknown; allowed: GRU, AIGRU"):
        recurrence(**arguments, kind="LSTM")


def test_stands_alone_beside_a_copy_of_itself():
    program = """
import sys
import layers.triton_gpu as copy
assert "triton" not in sys.modules
sys.path.insert(0, "../../..")
from model_zoo.DIEN.src.layers import triton_gpu
import torch
x = torch.ones(2, 2)
for recurrence in (copy.recurrence, triton_gpu.recurrence):
    print(recurrence(x, torch.tensor([0, 1, 2]), None, 0 * x, 0 * torch.ones(6, 2), torch.ones(6, 2),
                     torch.ones(6), "GRU")[1][0, 0].item())
"""
    printed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT / "model_zoo" / "DIEN" / "src",
        check=True,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    ).stdout
    one = torch.ones(())
    assert list(map(float, printed.split())) == pytest.approx([(one.sigmoid() * one.tanh()).item()] * 2)


def test_without_triton_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(RuntimeError, match=r"needs triton, which is not installed: pip install triton$"):
        recurrence(**case("GRU", [1], 2))


def test_without_a_gpu_the_error_says_so(monkeypatch):
    from model_zoo.DIEN.src.layers.triton_gpu import gates

    monkeypatch.setattr(gates.INTERPRETED, "value", False)
    with pytest.raises(ValueError, match="x must be on a GPU, is on cpu"):
        recurrence(**{n: t.cpu() if torch.is_tensor(t) else t for n, t in case("GRU", [1], 2).items()})


def test_a_model_refuses_triton_where_it_cannot_run(monkeypatch, make_dien):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"recurrence_backend='triton': .* NVIDIA GPU"):
        make_dien(recurrence_backend="triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ValueError, match=r"recurrence_backend='triton': .* pip install triton"):
        make_dien(recurrence_backend="triton")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_is_triton_on_a_gpu_and_says_so_where_it_is_not(dtype, monkeypatch, real_auto, caplog):
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=dtype)
    backends._has.cache_clear()
    assert backends.automatic(on_gpu) == "triton" and not caplog.records
    monkeypatch.setitem(sys.modules, "triton", None)
    backends._has.cache_clear()
    assert [backends.automatic(on_gpu) for _ in range(2)] == ["torch", "torch"]
    backends._has.cache_clear()
    (record,) = caplog.records
    assert "auto is torch here, which is slower. The recurrence on a GPU needs triton" in record.getMessage()
