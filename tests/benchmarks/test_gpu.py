import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


def test_runs_interpreted(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available() or sys.platform != "linux":
        pytest.skip("the interpreter stands in for a GPU")
    import made_triton  # noqa: F401  # skips where triton has no interpreter that works

    arguments = ["--device", "cpu", "--rows", "3", "--steps", "2", "--hidden", "5", "--rounds", "1"]
    assert gpu.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("cuDNN's nn.GRU") == len(gpu.PRECISIONS) and "AUGRU, triton" in printed


def test_needs_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err == "error: torch finds no GPU\n"


def test_needs_torch_and_triton_alone() -> None:
    imported = [
        line.split()[1].split(".")[0]
        for line in Path(gpu.__file__).read_text().splitlines()
        if line.startswith(("import ", "from "))
    ]
    assert not {"fuxictr", "data", "model_zoo"} & set(imported)
