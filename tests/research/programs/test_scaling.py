"""The cost of several workers: on paper against plain sums, and the program at tiny sizes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sizes import TINY

from research.programs.scaling import __main__ as scaling
from research.programs.scaling import measured
from research.programs.scaling.measured import MEMBERS
from research.programs.scaling.paper import DESIGNS, MACHINES, Machine, Step, cost_rows, distinct, negatives, nets

PLAIN = Machine(
    "plain", bandwidth=100, hop=1, message=0.5, memory=1000, compute=30, update=0.25, touch=0.75, draw=0.125
)
STEP = Step(rows=4, behaviours=1, width=2, net_weights=10, sums=3)


@pytest.mark.parametrize(("vocabulary", "lookups"), [(10, 3), (1000, 1000), (20_000, 500)])
def test_distinct_items_are_those_of_zipfs_law(vocabulary: int, lookups: int) -> None:
    weights = np.log1p(1 / np.arange(1, vocabulary + 1))
    expected = (1 - (1 - weights / weights.sum()) ** lookups).sum()
    assert distinct(vocabulary, lookups) == pytest.approx(expected, rel=2e-3)


def test_costs_are_those_of_the_formulas() -> None:
    touched, of_all = distinct(100, 12), distinct(100, 48)
    assert DESIGNS["dense"](STEP, PLAIN, 100, 4) == pytest.approx((2 * 0.75 * 800 / 100 + 4 * 1 + 100 * 0.25, 3200))
    seconds = 3 * touched * 16 / 100 + 4 * 1 + of_all * 0.75
    assert DESIGNS["gathered"](STEP, PLAIN, 100, 4) == pytest.approx((seconds, 2400))
    seconds = 0.75 * touched * 24 / 100 + 4 * 1 + 3 * 4 * 0.5 + of_all / 4 * 0.75
    assert DESIGNS["owned"](STEP, PLAIN, 100, 4) == pytest.approx((seconds, 600))
    assert nets(STEP, PLAIN, 4) == pytest.approx(2 * 0.75 * 40 / 100 + 4 * 1 + 3 * 2 * 1)
    assert negatives(STEP, PLAIN, 4) == pytest.approx(3 * 4 * 16 / 100 + 16 * 0.125)


def test_what_does_not_fit_is_not_taken() -> None:
    rows = {(row["items"], row["workers"]): row for row in cost_rows(STEP, replace(PLAIN, memory=8e8))}
    fits = rows[10_000_000, 8]
    assert [fits[f"{name}, ms"] == "too large" for name in DESIGNS] == [False, False, False]
    only = rows[1_000_000_000, 64]
    assert (only["dense, ms"], only["gathered, ms"], only["fastest"]) == ("too large", "too large", "owned")
    assert only["GiB a worker"] == pytest.approx(3e9 * 8 / 64 / 2**30)
    taken = only["owned, ms"] + only["nets, ms"] + only["negatives, ms"]
    assert only["efficiency, %"] == pytest.approx(100 * 30_000 / (30_000 + taken))
    none = rows[1_000_000_000, 2]
    assert (none["fastest"], none["efficiency, %"]) == ("none fits", None)


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "UPDATES", ("sparse",))
    monkeypatch.setattr(measured, "FLOATS", (1,))
    monkeypatch.setattr(measured, "TABLE", 100)
    file = tmp_path / "out.json"
    assert scaling.main(["--rounds", "1", "--rows", "4", "--json", str(file)], TINY) == 0
    tables = json.loads(file.read_text())["tables"]
    assert list(tables) == [
        *(f"On paper: {machine.name}" for machine in MACHINES),
        "Training steps, one thread a process",
        "Sums over two workers by gloo",
        "Rows and draws, one thread",
    ]
    steps, sums, pieces = list(tables.values())[2:]
    assert [(row["embedding_updates"], row["who"]) for row in steps] == [
        ("sparse", members.name) for members in MEMBERS
    ]
    assert [row["rows"] for row in steps] == [4, 4, 4, 8]
    assert all(row["samples/s"] == pytest.approx(1000 * row["rows"] / row["ms"]) for row in steps)
    assert steps[0]["beside one process"] == 1
    assert [row["floats"] for row in sums] == [1]
    assert len(pieces) == 3 and all(row["ns"] > 0 for row in pieces)
    assert "900 a touched one" in capsys.readouterr().out


def test_a_worker_needs_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        scaling.main(["--rows", "1"])
    assert "--rows 1: at least 2" in capsys.readouterr().err
