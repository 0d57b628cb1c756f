"""The program that simulates how often intervals hold the truth; bounds are in tests/studies/comparison."""

import json
from pathlib import Path

import numpy as np
import pytest

from dien_fuxictr.studies.comparison.statistics import Interval
from research.programs import coverage


def test_each_cell_is_a_share_of_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "out.json"
    arguments = ["--studies", "4", "--runs", "2", "3", "--seed", "7", "--json", str(file)]
    coverage.main(arguments)
    printed = capsys.readouterr().out
    tables = json.loads(file.read_text())["tables"]
    assert list(tables) == ["Coverage", "Width"] and "### Coverage" in printed
    for rows in tables.values():
        assert [(row["interval of"], row["seeds / users"]) for row in rows] == [
            (case, seeds) for case, (_, _, every) in coverage.CASES.items() for seeds in every
        ]
    assert {float(row[f"{runs} runs"]) for row in tables["Coverage"] for runs in (2, 3)} <= {0, 0.25, 0.5, 0.75, 1}
    coverage.main(arguments)
    assert json.loads(file.read_text())["tables"] == tables, "the same seed, the same studies"


def test_an_interval_that_is_refused_stands_for_all_values() -> None:
    intervals = iter(
        [Interval(0, -1, 1, None, True), Interval(0, None, None, "runs", True), Interval(3, 2, 4, None, True)]
    )
    found = coverage.simulate(lambda runs, rng: next(intervals), 0, 2, 3, 0)
    assert (found.coverage, found.refused) == pytest.approx((2 / 3, 1 / 3))
    assert found.width == pytest.approx(1 / (1.96 * np.std([0, 0, 3])))


def test_one_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        coverage.main(["--runs", "1", "2"])
    assert end.value.code == 2 and "two runs of each system" in capsys.readouterr().err
