"""`--report`: the files that a comparison reads."""

import json
from datetime import date, timedelta
from importlib.metadata import version

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from dien_fuxictr.experiment.report import Report, read_curve, versions
from dien_fuxictr.experiment.training.run_state import RunState


def test_report_holds_metrics_curves_timings_and_predictions(workspace):
    assert workspace.run("--report", "report") == 0
    folder = workspace.folder / "report"
    result = json.loads((folder / "result.json").read_text())
    predictions = np.load(folder / "predictions.npz")
    test = np.load(workspace.folder / "data" / "tiny" / "test.npz")
    assert predictions["label"].tolist() == test["label"].tolist()
    assert predictions["group"].tolist() == test["user"].tolist()
    assert abs(roc_auc_score(predictions["label"], predictions["score"]) - result["test"]["AUC"]) < 1e-9
    assert (result["expid"], result["model"], result["seed"], result["epochs"]) == ("Tiny_test", "Tiny", 7, 3)
    assert result["train_rows"] == 3 * 200 and result["train_seconds"] > 0 and result["inference_ms"] > 0
    assert result["parameters"] == 32 * 4 + 4 * 8 + 8 + 2 * 8 + 8 + 1
    curve = result["curve"]
    assert [(point["step"], point["epoch"]) for point in curve] == [(7, 1), (14, 2), (21, 3)]
    assert set(curve[0]) == {"step", "epoch", "loss/train", "loss/target", "validation/AUC", "monitor"}
    assert curve == read_curve(folder / "curve.jsonl")
    assert max(point["monitor"] for point in curve) == pytest.approx(result["valid"]["AUC"], abs=1e-9)
    assert result["config"]["learning_rate"] == "0.01" and "torch" in result["versions"]
    assert result["hardware"]["device"].strip() and result["hardware"]["cpus"] >= 1
    assert abs(date.fromisoformat(result["date"]) - date.today()) <= timedelta(days=1)


def test_versions_name_the_build_of_torch(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.99.0+cu130")
    found = versions(["torch", "numpy", "a-package-that-is-not-installed"])
    assert list(found) == ["python", "torch", "numpy"]
    assert found["torch"] == "2.99.0+cu130" and found["numpy"] == version("numpy")


def test_report_and_tensorboard_do_not_change_the_run(workspace):
    assert workspace.run() == 0
    weights = workspace.file(".model").read_bytes()
    assert workspace.run("--report", "report", "--tensorboard") == 0
    assert workspace.file(".model").read_bytes() == weights


def test_report_of_a_run_without_test_data(workspace):
    workspace.write_configs({"Tiny_test": {"epochs": 1}}, {"test_data": None})
    assert workspace.run("--report", "report") == 0
    assert json.loads((workspace.folder / "report" / "result.json").read_text())["test"] == {}
    assert not (workspace.folder / "report" / "predictions.npz").exists()


def test_an_auxiliary_loss_that_is_off_has_no_curve(workspace):
    workspace.write_configs({"Tiny_test": {"epochs": 1, "fault": "auxiliary_off"}})
    assert workspace.run("--report", "report") == 0
    curve = json.loads((workspace.folder / "report" / "result.json").read_text())["curve"]
    assert "loss/train" in curve[0] and "loss/auxiliary" not in curve[0]


def test_epochs_are_counted_however_many_evaluations_they_have(workspace):
    workspace.write_configs({"Tiny_test": {"eval_steps": 3, "monitor": {"AUC": 1, "logloss": -1}}})
    assert workspace.run("--report", "report") == 0
    result = json.loads((workspace.folder / "report" / "result.json").read_text())
    assert [point["epoch"] for point in result["curve"]] == [1, 1, 2, 2, 3, 3, 3] and result["epochs"] == 3
    for point in result["curve"]:
        assert point["monitor"] == pytest.approx(point["validation/AUC"] - point["validation/logloss"])


@pytest.fixture
def stop(monkeypatch):
    """Let training stop as if killed before it writes its state for the nth time."""

    def before(number: int) -> None:
        write, states = RunState.save, iter(range(1, 100))

        def write_or_stop(state: RunState) -> None:
            if next(states) == number:
                raise KeyboardInterrupt
            write(state)

        monkeypatch.setattr(RunState, "save", write_or_stop)

    return before


def test_resumed_run_continues_its_curve(workspace, stop):
    assert workspace.run("--report", "whole") == 0
    whole, curve = (workspace.folder / name / "curve.jsonl" for name in ("whole", "report"))
    stop(2)
    assert workspace.run("--report", "report") == 130
    assert curve.read_bytes() == b"".join(whole.read_bytes().splitlines(keepends=True)[:2])
    with open(curve, "ab") as file:
        file.write(b'{"step": 21, "epo')  # of a killed writer
    assert len(read_curve(curve)) == 2
    stop(100)
    assert workspace.run("--report", "report", "--resume") == 0
    assert curve.read_bytes() == whole.read_bytes()


def test_fresh_run_starts_a_new_curve_when_it_trains(workspace, bad, stop):
    assert workspace.run("--report", "report") == 0
    workspace.write_configs({"Tiny_test": {"batch_size": 0}})
    bad("--report", "report")  # leaves all files alone
    workspace.write_configs({"Tiny_test": {"learning_rate": 0.5}})
    stop(1)
    assert workspace.run("--report", "report") == 130
    assert len(read_curve(workspace.folder / "report" / "curve.jsonl")) == 1


def test_resume_writes_a_missing_report(workspace, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    assert workspace.run("--report", "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(Report, "save", stop)
        assert workspace.run("--report", "report") == 130
    assert workspace.run("--report", "report", "--resume") == 0
    whole, resumed = (json.loads((workspace.folder / name / "result.json").read_text()) for name in ("whole", "report"))
    for name in ("curve", "epochs", "train_rows", "valid", "test", "config"):
        assert resumed[name] == whole[name]
    assert resumed["train_seconds"] > 0


def test_a_curve_that_cannot_be_written_is_bad_input(workspace, capsys, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dien_fuxictr.experiment.report.open", full, raising=False)
    assert workspace.run("--report", "report") == 2
    assert capsys.readouterr().err.endswith("error: cannot write report/curve.jsonl: No space left on device\n")
