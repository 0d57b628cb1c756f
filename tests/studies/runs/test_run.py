"""Checks that files in a run's folder belong to its configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from dien_fuxictr.experiment.models import code_digest, find_model
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.resume import as_text
from dien_fuxictr.studies.runs.run import Curve, Run, note_changed_code

PARAMS = {"model_root": "models", "dataset_id": "d", "units": [8], "rate": 0.1, "verbose": 0}
OTHERS = {
    "changed": {**PARAMS, "rate": 0.2},
    "one more": {**PARAMS, "dropout": None},
    "one less": {key: value for key, value in PARAMS.items() if key != "units"},
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return Run("a", PARAMS, Path("config"), Path("study"))


def with_params(run: Run, params: dict[str, Any]) -> Run:
    return Run(run.expid, params, run.config, run.folder)


def write_curve(run: Run) -> None:
    run.curve.parent.mkdir(parents=True, exist_ok=True)
    run.curve.write_text('{"step": 1, "epoch": 1, "monitor": 0.5}\n')


def write_state(**state: Any) -> None:
    checkpoint.save({"config": as_text(PARAMS | {"content of the data set": {"train": "0"}}), **state}, STATE)


STATE = Path("models", "d", "a.resume")
FRESH = ["--config", "config", "--expid", "a", "--report", str(Path("study", "runs", "a")), "--allow-untrained"]


def test_a_result_is_of_this_very_configuration(run: Run) -> None:
    assert run.result is None
    run.report.mkdir(parents=True)
    result = {"valid": {"AUC": 0.5}, "config": as_text(PARAMS)}
    (run.report / "result.json").write_text(json.dumps(result))
    assert run.result == result == with_params(run, {**PARAMS, "verbose": 1, "model_root": "elsewhere"}).result
    assert [name for name, params in OTHERS.items() if with_params(run, params).result] == []


def test_runs_of_other_code_are_noted(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    of_dien = with_params(run, {**PARAMS, "model": "DIEN"})
    run.report.mkdir(parents=True)
    for code, is_noted in ((code_digest(find_model("DIEN")), False), ("0" * 32, True), (None, False)):
        result = {"config": as_text(of_dien.params), **({"model_code": code} if code else {})}
        (run.report / "result.json").write_text(json.dumps(result))
        note_changed_code([of_dien])
        noted = capsys.readouterr().err
        assert ("the code of DIEN has changed since these runs: a; their results stand" in noted) == is_noted, code


def test_a_fresh_run_has_no_curve_of_an_earlier_one(run: Run) -> None:
    write_curve(run)
    job = run.job()
    assert (job.arguments, job.log, job.goes_on) == (FRESH, Path("study", "logs", "a.log"), False)
    assert not run.curve.exists()


def test_interrupted_run_is_continued(run: Run) -> None:
    write_curve(run)
    write_state(progress={})
    job = run.job()
    assert (job.arguments, job.goes_on) == ([*FRESH, "--resume"], True) and run.curve.exists()
    assert with_params(run, {**PARAMS, "verbose": 1}).job().goes_on


@pytest.mark.parametrize("name", OTHERS)
def test_state_of_another_configuration_is_replaced(run: Run, name: str) -> None:
    write_curve(run)
    write_state(progress={})
    job = with_params(run, OTHERS[name]).job()
    assert not job.goes_on and not run.curve.exists() and STATE.exists()


@pytest.mark.parametrize("fault", ["no curve", "broken", "of an earlier version"])
def test_unusable_state_is_replaced(run: Run, fault: str) -> None:
    write_state(**{} if fault == "of an earlier version" else {"progress": {}})
    if fault != "no curve":
        write_curve(run)
    if fault == "broken":
        STATE.write_bytes(STATE.read_bytes()[:50])
    assert not run.job().goes_on


def test_a_curve_is_read_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "curve.jsonl"
    curve = Curve(file)
    assert not curve.update()

    def values(text: str) -> list[float] | None:
        with open(file, "a") as output:
            output.write(text)
        return [point["monitor"] for point in curve.points] if curve.update() else None

    assert values("") is None
    assert values('{"step": 3, "monitor": 0.5}\n{"st') == [0.5]
    assert values("") is None
    assert values('ep": 6, "monitor": 0.6}\n') == [0.5, 0.6]
