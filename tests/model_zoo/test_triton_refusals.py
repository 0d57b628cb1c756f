"""Refusals of the kernels in Triton, and messages if they cannot run."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from made_recurrence import WRONG_WEIGHTS, four_steps
from made_triton import case

from model_zoo.DIEN.src.kernels import backends
from model_zoo.DIEN.src.kernels.triton import recurrence

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name,value,message",
    [
        ("attention", torch.ones(3), r"attention must be \(4,\), torch.float32 on .*, is \(3,\)"),
        ("attention", None, r"attention must be \(4,\), torch.float32 on .*, is None"),
        *WRONG_WEIGHTS,
        ("bias", torch.ones(6, device="meta"), "bias must be .* is .* on meta"),
        ("x", torch.ones(4, 5, dtype=torch.int64), "x is torch.int64; allowed: torch.float32, torch.bfloat16"),
        ("offsets", torch.tensor([0, 2, 2, 4], dtype=torch.int32), r"offsets must be \(4,\), torch.int64"),
    ],
)
def test_refuses_what_it_cannot_take(name, value, message):
    with pytest.raises(ValueError, match=message):
        recurrence(**{**four_steps(), name: value})
    with pytest.raises(ValueError, match="kind='LSTM' is unknown; allowed: GRU, AIGRU"):
        recurrence(**{**four_steps(), "kind": "LSTM"})


def test_two_copies_of_the_package_work():
    program = """
import sys
from types import ModuleType
sys.modules["copy_of_dien"] = package = ModuleType("copy_of_dien")
package.__path__ = ["."]
import copy_of_dien.kernels.triton as copy
assert "triton" not in sys.modules
sys.path.insert(0, "../../..")
from model_zoo.DIEN.src.kernels import triton
import torch
x = torch.ones(2, 2)
for recurrence in (copy.recurrence, triton.recurrence):
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
    from model_zoo.DIEN.src.kernels.triton import gates

    monkeypatch.setattr(gates.INTERPRETED, "value", False)
    with pytest.raises(ValueError, match="x must be on a GPU, is on cpu"):
        recurrence(**{n: t.cpu() if torch.is_tensor(t) else t for n, t in case("GRU", [1], 2).items()})


def test_a_model_refuses_triton_where_it_cannot_run(monkeypatch, make_dien):
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"recurrence_backend = 'triton': .* NVIDIA GPU"):
        make_dien(recurrence_backend="triton")
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ValueError, match=r"recurrence_backend = 'triton': .* pip install triton"):
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
