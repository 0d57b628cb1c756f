"""`--report`: the files that a comparison reads."""

import json
from importlib.metadata import version

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from dien_fuxictr.experiment.report import versions


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
    assert [point["step"] for point in result["curve"]] == [7, 14, 21]
    assert set(result["curve"][0]) == {"step", "loss/train", "validation/AUC"}
    assert result["config"]["learning_rate"] == "0.01" and "torch" in result["versions"]
    assert result["hardware"]["device"].strip() and result["hardware"]["cpus"] >= 1


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
    assert set(curve[0]) == {"step", "loss/train", "validation/AUC"}
