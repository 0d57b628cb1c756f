"""Refused runs: one line, exit code 2, and no file changed."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch

from dien_fuxictr import Experiment


def test_tensorboard_that_is_not_installed(bad, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install tensorboard" in bad("--tensorboard")


def test_device_index_that_does_not_exist(trained, bad, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--gpu 2 does not exist: there are 2 CUDA devices" in bad("--gpu", "2")


@pytest.mark.parametrize("mode", [[], ["--eval-only"], ["--workers", "2"]], ids=str)
def test_gpu_without_cuda(trained, bad, monkeypatch, mode):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bad("--gpu", "1", *mode) == "error: --gpu 1: no CUDA device is available; --gpu -1 runs on the CPU"
    assert trained.run("--gpu", "1", "--show-config") == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net_dropuot": 0.1}, "unknown key 'net_dropuot' in config/model_config.yaml [Tiny_test]; did you mean"),
        ({"metrics": ["AUC", "F1"]}, "metric 'F1' is unknown; allowed: AUC"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"fault": "value"}, "Tiny_test: fault must not be 'value'"),
        ({"fault": "no_optimizer"}, "model Tiny has no optimizer; its constructor must end with self.finish(...) or"),
        (
            {"fault": "late_layer"},
            "model Tiny would not train late.weight, late.bias: the optimizer lacks them; make all",
        ),
        ({"fault": "tensor"}, "forward of model Tiny returns Tensor; it must return a dict with y_pred (32, 1)"),
        ({"fault": "no_prediction"}, "forward of model Tiny returns dict; it must return a dict with y_pred (32, 1)"),
        ({"fault": "flat_prediction"}, "forward of model Tiny returns y_pred (32,); it must return a dict with y_pred"),
        ({"model": "Tny"}, "model 'Tny' is unknown; nearest: Tiny; a model of a FuxiCTR checkout needs zoo"),
        ({"dataset_id": "tinny"}, "dataset_id 'tinny' is not in config; nearest: tiny"),
        ({"dataset_id": "TBD"}, "template"),
        ({"use_features": ["item", "itm"]}, "use_features: the data set has no feature 'itm'; there are item"),
        ({"feature_specs": [{"name": ["itm"], "x": 1}]}, "feature_specs: the data set has no feature 'itm'"),
        ({"group_id": "users"}, "group_id: the data set has no feature 'users'; there are user"),
        ({"use_features": ["item"]}, "group_id: feature 'user' is missing in use_features"),
    ],
    ids=str,
)
def test_bad_settings_after_an_earlier_run(trained, bad, settings, message):
    trained.write_configs({"Tiny_test": settings})
    assert message in bad()


def test_unknown_expid(trained, bad):
    assert "expid 'Tiny_tset' is not in config; nearest: Tiny_test" in bad(expid="Tiny_tset")


def test_strict_refuses_any_unknown_key(trained, bad, capsys):
    trained.write_configs({"Tiny_test": {"remark": "x"}})
    assert "unknown keys: remark" in bad("--strict")
    assert trained.run() == 0
    assert capsys.readouterr().err.count("warning: ") == 1


def test_missing_data_file_lists_what_was_tried(trained, bad):
    trained.write_configs({"Tiny_test": {}}, {"valid_data": "./data/none.npz"})
    message = bad()
    assert "valid_data: ./data/none.npz does not exist; tried" in message
    assert str(trained.folder / "data" / "none.npz") in message
    assert str(trained.folder / "config" / "data" / "none.npz") in message


@pytest.mark.parametrize("fault", ["column", "vocabulary", "classes", "empty"])
def test_bad_encoded_data(trained, bad, fault):
    path = trained.folder / "data" / "tiny" / "valid.npz"
    arrays = dict(np.load(path))
    if fault == "column":
        del arrays["item"]
    elif fault == "vocabulary":
        arrays["item"][3] = 32
    elif fault == "classes":
        arrays["label"][:] = 1
    else:
        arrays = {name: values[:0] for name, values in arrays.items()}
    np.savez(path, **arrays)
    assert "valid" in bad()


def test_data_set_without_validation_data(workspace, bad):
    workspace.write_configs({"Tiny_test": {}}, {"valid_data": None})
    assert "valid_data of data set tiny is missing" in bad()


def test_model_package_without_class_or_imports(workspace, bad, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    package = workspace.folder / "model_zoo" / "Other" / "src"
    package.mkdir(parents=True)
    workspace.write_configs({"Tiny_test": {"model": "Other"}})
    file = package / "__init__.py"
    for folder in (package, package.parent / "none"):
        assert bad() == f"error: model 'Other': {file} does not exist; write it, with from .Other import Other"
        sys.modules.pop("model_zoo.Other.src", None)
        package.rename(folder)
    (package.parent / "none").rename(package)
    file.write_text("")
    assert f"model 'Other': {file} has no class of that name; add from .Other import Other" in bad()
    sys.modules.pop("model_zoo.Other.src")
    file.write_text("import math\nmath.no_such_function")
    assert workspace.run() == 1
    assert "unexpected AttributeError in find_model: module 'math' has no attribute" in capsys.readouterr().err
    (package / "__init__.py").write_text("import a_package_that_is_not_there")
    assert workspace.run() == 1
    assert "ModuleNotFoundError in find_model: No module named 'a_package_that_is_not" in capsys.readouterr().err
    assert "a_package_that_is_not_there" in (workspace.folder / "pytest.error.log").read_text()


def test_feature_map_that_is_missing_or_of_another_data_set(workspace, bad):
    path = workspace.folder / "data" / "tiny" / "feature_map.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "dataset_id": "other"}))
    assert "other" in bad()
    path.unlink()
    assert "feature_map.json" in bad()


@pytest.mark.parametrize("mode", ["--eval-only", "--resume"])
def test_bad_or_missing_checkpoint_is_refused(trained, bad, mode):
    name = ".model" if mode == "--eval-only" else ".resume"
    path = trained.file(name)
    original = path.read_bytes()
    if mode == "--eval-only":
        trained.file(".resume").unlink()  # the digest would refuse all of these values
    path.write_bytes(original[:200])
    assert "is not readable" in bad(mode) or "is refused" in bad(mode)
    torch.save({"w": shutil.rmtree}, path)
    assert "is refused" in bad(mode)
    path.unlink()
    assert "does not exist" in bad(mode)
    path.write_bytes(original)
    trained.write_configs({"Tiny_test": {"hidden_units": [5]}})
    message = "does not match the model" if mode == "--eval-only" else "the configuration differs in hidden_units"
    assert message in bad(mode)


def test_evaluation_without_a_checkpoint_builds_no_data(workspace, bad):
    workspace.use_csv()
    assert "Tiny_test.model does not exist; run_expid.py --expid Tiny_test trains it" in bad("--eval-only")


@pytest.mark.parametrize("output", ["--report", "results", "--out"])
def test_unwritable_output_is_refused_before_work(trained, bad, monkeypatch, output):
    def works(*_, **__):
        raise AssertionError("it has begun")

    monkeypatch.setattr(Experiment, "prepare", works)
    monkeypatch.setattr(Experiment, "predict", works)
    (trained.folder / "file").touch()
    if output == "results":
        (trained.folder / "config.csv").unlink()
        (trained.folder / "config.csv").mkdir()
        assert "cannot write config.csv: it already exists and is not a file" in bad()
    elif output == "--report":
        assert "cannot write file/a/curve.jsonl: Not a directory" in bad("--report", "file/a")
    else:
        assert "cannot write file/scores.csv: Not a dir" in bad("--predict", "file", "--out", "file/scores.csv")


@pytest.mark.parametrize("name", ["rows.csv", "../{}/rows.csv", "link.csv", "hard.csv"])
def test_scores_do_not_overwrite_their_rows(trained, bad, name):
    rows = trained.folder / "rows.csv"
    rows.write_text("item\n1\n")
    (trained.folder / "link.csv").symlink_to(rows)
    (trained.folder / "hard.csv").hardlink_to(rows)
    out = name.format(trained.folder.name)
    line = f"--out {out} is an input of the command: --predict = rows.csv; name another path"
    assert line in bad("--predict", "rows.csv", "--out", out)


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("checkpoints/tiny/Tiny_test.model", "lies in model_root"),
        ("checkpoints/other.csv", "lies in model_root"),
        ("config/model_config.yaml", "lies in --config"),
        ("config/scores.csv", "lies in --config"),
        ("data/tiny/test.npz", "is an input of the command: test_data = data/tiny/test.npz"),
        ("data/tiny/feature_map.json", "lies in the data set"),
        ("dangling.csv", "dangling.csv: it is a link to nowhere.csv, which does not exist"),
    ],
)
def test_scores_overwrite_nothing_that_runs_work_with(trained, bad, out, reason):
    (trained.folder / "rows.csv").write_text("item\n1\n")
    (trained.folder / "dangling.csv").symlink_to("nowhere.csv")
    assert reason in bad("--predict", "rows.csv", "--out", out)
    assert not (trained.folder / "nowhere.csv").exists()


def test_scores_do_not_overwrite_inputs_of_the_data_set(workspace, bad):
    workspace.use_csv()
    (workspace.folder / "rows.csv").write_text("user,item,history\nu1,i1,\n")
    assert "is an input of the command: train_data file 1 = train.csv" in bad(
        "--predict", "rows.csv", "--out", "train.csv"
    )


def test_a_report_goes_into_no_data_set(trained, bad):
    assert "--report data/tiny/new lies in" in bad("--report", "data/tiny/new")


def test_an_index_below_that_of_the_cpu(trained, bad):
    assert "--gpu -7: must be -1 for the CPU, or the index of a GPU" in bad("--gpu", "-7")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--gpu", "one"],
        ["--out", "x.csv"],
        ["--resume", "--eval-only"],
        ["--predict"],
        ["--unknown"],
        ["--eval-only", "--report", "folder"],
        ["--predict", "x.csv", "--report", "folder"],
        ["--eval-only", "--tensorboard"],
    ],
    ids=str,
)
def test_wrong_command_line(workspace, capsys, arguments):
    with pytest.raises(SystemExit) as error:
        workspace.run(*arguments)
    assert error.value.code == 2 and "usage: run_expid.py" in capsys.readouterr().err
