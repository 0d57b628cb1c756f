"""Comparison of Triton's kernels with torch before `auto` uses them."""

import pytest
import torch
from made_recurrence import case, outcome
from made_triton import DEVICE

from model_zoo.DIEN.src.attentional_gru import AttentionalGRU, attentional_gru
from model_zoo.DIEN.src.kernels import backends, triton
from model_zoo.DIEN.src.kernels.verification import find_fault


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch, real_auto):
    """Make Triton the fastest backend of this device, with no comparison made yet.

    On a CPU the kernels are interpreted.
    """
    monkeypatch.setattr(backends, "_FASTEST", {(DEVICE.type, dtype): "triton" for dtype in triton.DTYPES})
    monkeypatch.setattr(backends, "_DISTRUSTED", set())
    for cached in (backends._has, backends._with_kind, backends._agrees_in):
        cached.cache_clear()
    yield
    for cached in (backends._has, backends._with_kind, backends._agrees_in):
        cached.cache_clear()


@pytest.fixture
def runs(monkeypatch):
    """Record the kinds and dtypes of runs of Triton's kernels."""
    seen, kernel = [], backends.RECURRENCE["triton"]

    def counted(inputs, *rest):
        seen.append((rest[-1], inputs.dtype))
        return kernel(inputs, *rest)

    monkeypatch.setitem(backends.RECURRENCE, "triton", counted)
    return seen


def arguments(dtype=torch.float32, hidden=4):
    return {n: x if n == "packing" else x.to(DEVICE) for n, x in case(dtype, 3, 4, hidden).items()}


def run_twice(kind="AUGRU", dtype=torch.float32):
    for _ in range(2):
        for got, expected in zip(
            attentional_gru(**arguments(dtype), kind=kind),
            attentional_gru(**arguments(dtype), kind=kind, backend="torch"),
            strict=True,
        ):
            torch.testing.assert_close(got, expected, atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", triton.KINDS)
@pytest.mark.parametrize("dtype", triton.DTYPES, ids=str)
@pytest.mark.parametrize("hidden", [5, 36])
def test_the_kernels_are_right(kind, dtype, hidden):
    assert not find_fault(backends.RECURRENCE["triton"], backends.RECURRENCE["torch"], kind, hidden, dtype, DEVICE)


def test_right_kernels_are_compared_once_and_run(runs, caplog):
    run_twice()
    assert runs == [("AUGRU", torch.float32)] * 3 and not caplog.records
    run_twice("GRU")
    assert runs[3:] == [("GRU", torch.float32)] * 3 and not caplog.records


def wrong_states(states, final):
    return states + 0.01, final


def wrong_final(states, final):
    return states, torch.where(torch.arange(len(final), device=final.device).unsqueeze(1) == 33, 0, final)


def not_numbers(states, final):
    return states * torch.nan, final


def wrong_gradient(states, final):
    return states, final * 1.05 - 0.05 * final.detach()


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (wrong_states, "states by 1.0e-02"),
        (wrong_final, "final by"),
        (not_numbers, "states by nan"),
        (wrong_gradient, "the gradient of inputs by"),
    ],
)
def test_wrong_kernels_are_replaced_with_one_line(wrong, what, monkeypatch, caplog, runs):
    counted = backends.RECURRENCE["triton"]
    monkeypatch.setitem(backends.RECURRENCE, "triton", lambda *given: wrong(*counted(*given)))
    run_twice()
    run_twice("GRU")
    assert len(runs) == 1
    (line,) = caplog.messages
    assert line.startswith(
        "recurrence_backend auto is torch here, which is slower. The Triton kernels of AUGRU with H = 4 in "
        f"torch.float32 differ from torch's in {what}"
    )


def test_failing_kernels_are_replaced_with_one_line(monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("no such instruction\nptxas: and much more")

    monkeypatch.setitem(backends.RECURRENCE, "triton", fails)
    run_twice()
    run_twice("GRU")
    (line,) = caplog.messages
    assert line.endswith("in torch.float32 fail with RuntimeError: no such instruction")
    with pytest.raises(RuntimeError, match="no such instruction"):
        attentional_gru(**arguments(), backend="triton")


def test_each_type_is_compared_by_itself(monkeypatch, caplog, runs):
    counted = backends.RECURRENCE["triton"]

    def wrong_in_half(inputs, *rest):
        states, final = counted(inputs, *rest)
        return states + (inputs.dtype == torch.bfloat16), final

    monkeypatch.setitem(backends.RECURRENCE, "triton", wrong_in_half)
    with torch.autocast(DEVICE.type, torch.bfloat16):
        attentional_gru(**arguments())
    assert [dtype for _, dtype in runs] == [torch.bfloat16] and len(caplog.records) == 1
    run_twice()
    assert len(runs) == 4 and len(caplog.records) == 1


def test_comparing_changes_no_random_number_and_no_gradient(runs):
    c = arguments(torch.float64)
    torch.manual_seed(1)
    with torch.inference_mode():
        AttentionalGRU(c["inputs"].size(1), 4).double().to(DEVICE)(c["inputs"], c["packing"], c["attention"])
    first = torch.rand(2)
    assert len(runs) == 2
    torch.manual_seed(1)
    AttentionalGRU(c["inputs"].size(1), 4)
    assert torch.equal(first, torch.rand(2))
    for name, got in outcome(c, "AUGRU", "auto").items():
        torch.testing.assert_close(got.cpu(), outcome(c, "AUGRU", "reference")[name].cpu())


def test_candidates_are_compared_too(monkeypatch, caplog):
    monkeypatch.setitem(backends.RECURRENCE, "triton", lambda *_: 1 / 0)
    gru = AttentionalGRU(4, 4).to(DEVICE)
    shared, attention, state = (torch.rand(shape, device=DEVICE) for shape in ((3, 4), (3, 2), (2, 4)))
    expected = backends.EVOLVE_CANDIDATES["torch"](shared, attention, state, *gru.parameters(), "AUGRU")
    assert torch.equal(gru.for_candidates(shared, attention, state), expected)
    assert "fail with ZeroDivisionError: division by zero" in caplog.text


def test_a_compiled_graph_holds_the_result_alone(caplog, runs):
    """Compare while torch traces the graph."""
    c = arguments()
    packing = c.pop("packing")

    def run(**tensors):
        return attentional_gru(packing=packing, **tensors)

    expected = run(**c)
    backends._agrees_in.cache_clear()
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    got = torch.compile(run, backend=keep)(**c)
    for mine, right in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, right)
    calls = [node.target for graph in graphs for node in graph.graph.nodes if node.op == "call_function"]
    assert not any("grad" in str(target) for target in calls) and len(runs) >= 2
