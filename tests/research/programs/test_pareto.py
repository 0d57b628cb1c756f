"""Quality and latency of a small comparison: what is measured, never a time."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_project import make_project

from dien_fuxictr.experiment.cli import main as train
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.studies.comparison.compare import compare
from dien_fuxictr.studies.comparison.plan import plan_comparison, write_runs
from dien_fuxictr.studies.comparison.results_table import Row
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.candidate_scoring import Arrays, CandidateScorer
from research.programs.pareto import main

SIZES = {"gru_hidden_size": 3, "dnn_hidden_units": [4], "attention_hidden_units": [5]}
CHANGES = {"DIEN_amazon": {}, "alone": SIZES, "DIENLight_amazon": SIZES}
FOLDER = Path("comparisons/amazon")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Row]]:
    """A project with a comparison, its runs in this process; and the comparison's rows."""
    project = make_project(tmp_path_factory.mktemp("front"), epochs=1, verbose=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        experiments = {}
        for expid, changes in CHANGES.items():
            params = load_config(Path("config"), "DIEN_amazon" if expid == "alone" else expid).params
            experiments[expid] = params | changes
        study = plan_comparison(experiments, 2, None, base="alone")
        runs = study.runs()
        write_runs(runs)
        for run in runs:
            assert train(["--config", str(run.config), "--expid", run.expid, "--report", str(run.report)]) == 0
        return project, {row.expid: row for row in compare(study, "")}


@pytest.fixture
def rows(compared: tuple[Path, dict[str, Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.chdir(compared[0])
    command = [str(FOLDER), "--against", "alone", "--behaviours", "2", "--candidates", "3", "--rounds", "1"]
    assert main([*command, "--json", str(tmp_path / "pareto.json")]) == 0
    report = json.loads((tmp_path / "pareto.json").read_text())
    assert report["program"] == "pareto" and list(report["tables"]) == ["Quality and latency, comparisons/amazon"]
    return report["tables"]["Quality and latency, comparisons/amazon"]


def test_quality_is_the_comparisons(rows: list[Any], compared: tuple[Path, dict[str, Row]]) -> None:
    beside = compared[1]
    assert [row["experiment"] for row in rows] == list(beside)
    for row in rows:
        other = beside[row["experiment"]]
        assert row["test AUC"] == f"{other.auc:.4f} ± {other.auc_std:.4f}"
        assert sum(row["AUC"]) / 2 == pytest.approx(other.auc)
        difference = f"{other.auc - beside['alone'].auc:+.4f} [{other.low or 0:+.4f}, {other.high or 0:+.4f}]"
        assert row["- alone"] == ("" if row["experiment"] == "alone" else difference)
    results = json.loads((FOLDER / "results.json").read_text())["runs"]
    for row in rows:
        first, second = (run["valid"]["AUC"] for run in results[row["experiment"]])
        assert row["validation AUC"].startswith(f"{(first + second) / 2:.4f} ± {abs(first - second) / 2**0.5:.4f}")


def test_parameters_are_those_of_what_is_served(rows: list[Any], compared: tuple[Path, dict[str, Row]]) -> None:
    """Without booster and auxiliary net."""
    size = {row["experiment"]: row["parameters"] for row in rows}
    trained = {expid: row.parameters for expid, row in compared[1].items()}
    assert size["DIENLight_amazon"] == size["alone"] < size["DIEN_amazon"] < trained["DIEN_amazon"]
    assert trained["DIENLight_amazon"] > trained["DIEN_amazon"]


def test_a_request_is_scored_by_the_light_net(
    compared: tuple[Path, dict[str, Row]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    scorer = DIEN.scorer

    def record(model: DIEN) -> CandidateScorer:
        score, hidden = scorer(model), model.sequences[0].evolution.weight_hh.size(1)

        def recorded(user: Arrays, candidates: Arrays, count: int) -> np.ndarray:
            sizes.append((type(model), (count, hidden)))
            return score(user, candidates, count)

        return recorded

    monkeypatch.setattr(DIEN, "scorer", record)
    monkeypatch.chdir(compared[0])
    assert main([str(FOLDER), "--behaviours", "2", "--candidates", "3", "--rounds", "1"]) == 0
    asked = {(model, size) for model, size in sizes if size[0] == 3}  # golden requests have more candidates
    assert asked == {(DIEN, (3, 3)), (DIEN, (3, 36))}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["elsewhere"], "elsewhere/results.json"), ([str(FOLDER), "--against", "DIN"], "--against DIN is none of")],
)
def test_bad_input(
    arguments: list[str],
    message: str,
    compared: tuple[Path, dict[str, Row]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(compared[0])
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_wrong_command_line() -> None:
    with pytest.raises(SystemExit) as error:
        main(["somewhere", "--candidates", "0"])
    assert error.value.code == 2
