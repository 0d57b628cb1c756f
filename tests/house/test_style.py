"""Lint, format and types, by tools that download nothing."""

import subprocess
import sys

import pytest
import torch
from source_code import ROOT
from torch.torch_version import TorchVersion

TOOLS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["basedpyright", "--pythonpath", sys.executable],
}


@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_to_complain(tool: str) -> None:
    if tool == "types" and TorchVersion(torch.__version__) < (2, 13):
        pytest.skip("torch before 2.13 declares other types")
    done = subprocess.run([sys.executable, "-m", *TOOLS[tool]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
