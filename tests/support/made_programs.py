"""Tiny sizes for programs that measure, and a run that returns its tables."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.synthetic_batches import Sizes

TINY = Sizes(
    items=50,
    categories=12,
    contexts=6,
    embedding=4,
    attention_units=(6, 3),
    aux_units=(6, 3),
    mlp_units=(8, 4),
    max_len=12,
)


def run_program(
    program: Any, folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str, **options: Any
) -> dict[str, list[dict[str, Any]]]:
    """Run a program with --json; return its tables, which are those that it prints."""
    assert not program.main([*arguments, "--json", str(folder / "out.json")], **options)
    printed, report = capsys.readouterr().out, json.loads((folder / "out.json").read_text())
    assert re.findall(r"^### (.+)$", printed, re.MULTILINE) == list(report["tables"])
    assert printed.splitlines()[-1].startswith(report["hardware"]["device"])
    assert f"python -m {program.__name__.removesuffix('.__main__')} " in report["command"]
    for rows in report["tables"].values():
        assert all(list(row) == list(rows[0]) for row in rows)
    return report["tables"]
