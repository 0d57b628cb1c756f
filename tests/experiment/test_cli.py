"""The command line: what a run leaves behind, its modes, and bad input that must leave everything alone."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment import Experiment
from dien_fuxictr.experiment.configuration.yaml_files import ConfigLoader

RESULT = (
    r" \d{8}-\d{6},\[command\] python .*,\[exp_id\] Tiny_test,\[dataset_id\] tiny,\[train\] N.A.,"
    r"\[val\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+,\[test\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+\n"
)


def metrics_lines(text: str) -> list[str]:
    return re.findall(r"\[Metrics\] (AUC: \S+ - gAUC: \S+ - logloss: \S+)", text)


@pytest.fixture
def trained(workspace, capsys):
    assert workspace.run() == 0
    return workspace


def test_run_writes_log_weights_and_the_zoos_result_line(trained, capsys):
    out = capsys.readouterr()
    log = trained.file(".log").read_text()
    assert log.count("FuxiCTR version") == 1 and "Start training: 7 batches/epoch" in log
    assert log == out.err[-len(log) :]
    assert len(metrics_lines(log)) == 2
    assert re.fullmatch(RESULT, (trained.folder / "config.csv").read_text())
    assert set(torch.load(trained.file(".model"), weights_only=True)) >= {"dnn.mlp.0.weight"}


def test_same_seed_same_weights_and_figures_with_or_without_tensorboard(trained, capsys):
    first = torch.load(trained.file(".model"), weights_only=True)
    figures = metrics_lines(capsys.readouterr().err)
    assert trained.run("--tensorboard") == 0
    again = torch.load(trained.file(".model"), weights_only=True)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert metrics_lines(capsys.readouterr().err) == figures
    lines = (trained.folder / "config.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[0].split("[val]")[1] == lines[1].split("[val]")[1]


def test_eval_only_prints_the_same_figures_and_appends_to_the_log(trained, capsys):
    figures = metrics_lines(capsys.readouterr().err)
    results = (trained.folder / "config.csv").read_bytes()
    weights = trained.file(".model").read_bytes()
    assert trained.run("--eval-only") == 0
    assert metrics_lines(capsys.readouterr().err) == figures
    assert metrics_lines(trained.file(".log").read_text()) == figures * 2
    assert trained.file(".model").read_bytes() == weights
    assert (trained.folder / "config.csv").read_bytes() == results


def test_resume_of_a_finished_run_just_evaluates(trained, capsys):
    figures = metrics_lines(capsys.readouterr().err)
    assert trained.run("--resume") == 0
    text = capsys.readouterr().err
    assert metrics_lines(text) == figures and "Start training" not in text


def test_show_config_prints_yaml_and_touches_nothing(workspace, capsys):
    workspace.write_configs({"Tiny_test": {"learning_rate": 0.5}})
    assert workspace.run("--show-config") == 0
    text = capsys.readouterr().out
    assert yaml.load(text, ConfigLoader)["learning_rate"] == 0.5
    assert "learning_rate: 0.5  # config/model_config.yaml [Tiny_test]" in text.splitlines()
    assert "seed: 7  # config/model_config.yaml [Base]" in text.splitlines()
    assert not (workspace.folder / "checkpoints").exists()


def test_show_config_into_a_reader_that_stops_early():
    root = Path(__file__).parents[2]
    shell = f"'{sys.executable}' run_expid.py --show-config | head -1"
    run = subprocess.run(shell, shell=True, cwd=root, capture_output=True, text=True, timeout=120)
    assert run.stdout.startswith("attention_activation: Dice") and run.stderr == ""


def test_show_config_warns_of_anothers_base(workspace, capsys):
    folder = workspace.folder / "config" / "model_config"
    folder.mkdir()
    (workspace.folder / "config" / "model_config.yaml").rename(folder / "Z.yaml")
    (folder / "A.yaml").write_text("Plain: {dataset_id: tiny}")
    assert workspace.run("--show-config", expid="Plain") == 0
    assert "warning: config/model_config/A.yaml has no Base of its own" in capsys.readouterr().err


def test_progress_bar_unless_verbose_is_0(workspace, capsys):
    assert workspace.run() == 0
    assert capsys.readouterr().out == ""
    workspace.write_configs({"Tiny_test": {"verbose": 1}})
    assert workspace.run() == 0
    assert "100%" in capsys.readouterr().out


def test_tensorboard_has_losses_metrics_rate_and_histograms(workspace):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert workspace.run("--tensorboard") == 0
    (folder,) = workspace.file(".tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    losses = {"loss/train", "loss/target", "gradient_norm"}
    assert set(events.Tags()["scalars"]) == {*losses, "learning_rate", "validation/AUC"}
    assert events.Tags()["histograms"] == ["attention/item"]
    assert [event.step for event in events.Scalars("validation/AUC")] == [7, 14, 21]
    assert len(events.Scalars("loss/train")) == 21


def test_tensorboard_that_is_not_installed(bad, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert "pip install tensorboard" in bad("--tensorboard")


def test_number_of_threads(workspace):
    workspace.write_configs({"Tiny_test": {"num_threads": 2, "epochs": 1}})
    assert workspace.run() == 0
    assert torch.get_num_threads() == 2


def test_regression(workspace, capsys):
    workspace.write_configs(
        {
            "Tiny_test": {
                "task": "regression",
                "loss": "mse_loss",
                "metrics": ["RMSE", "MAE"],
                "monitor": "RMSE",
                "monitor_mode": "min",
                "group_id": None,
            }
        }
    )
    assert workspace.run() == 0
    text = capsys.readouterr().err
    assert re.search(r"Save best model: monitor\(min\)=0\.\d+", text)
    assert len(re.findall(r"\[Metrics\] RMSE: 0\.\d+ - MAE: 0\.\d+", text)) == 2


def test_gpu_without_cuda_is_the_cpu_with_one_warning(workspace, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert workspace.run("--gpu", "1") == 0
    text = capsys.readouterr().err
    assert text.count("WARNING") == 1 and "--gpu 1: no CUDA device is available, running on the CPU" in text


def test_device_index_that_does_not_exist(trained, bad, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert "--gpu 2: there are 2 CUDA devices" in bad("--gpu", "2")


def test_validation_file_equal_to_the_test_file_is_one_warning(workspace, capsys):
    workspace.write_configs({"Tiny_test": {}}, {"test_data": "./data/tiny/valid.npz"})
    assert workspace.run() == 0
    assert capsys.readouterr().err.count("WARNING") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net_dropuot": 0.1}, "unknown key 'net_dropuot' in config/model_config.yaml [Tiny_test]; did you mean"),
        ({"metrics": ["AUC", "F1"]}, "metric 'F1' is unknown; allowed: AUC"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"fault": "value"}, "Tiny_test: fault must not be 'value'"),
        ({"model": "Tny"}, "model 'Tny' is unknown; nearest: Tiny"),
        ({"dataset_id": "tinny"}, "dataset_id 'tinny' is not in config; nearest: tiny"),
        ({"dataset_id": "TBD"}, "template"),
        ({"use_features": ["item", "itm"]}, "use_features: the data set has no feature 'itm'; there are item"),
        ({"feature_specs": [{"name": ["itm"], "x": 1}]}, "feature_specs: the data set has no feature 'itm'"),
        ({"group_id": "users"}, "group_id: the data set has no feature 'users'; there are user"),
        ({"use_features": ["item"]}, "group_id: use_features leaves feature 'user' out"),
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
    assert capsys.readouterr().err.count("WARNING") == 1


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
    assert "no valid_data" in bad()


def test_model_package_without_the_class_and_its_own_import_errors(workspace, bad, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    package = workspace.folder / "model_zoo" / "Other" / "src"
    package.mkdir(parents=True)
    workspace.write_configs({"Tiny_test": {"model": "Other"}})
    (package / "__init__.py").write_text("")
    assert "model_zoo.Other.src has no class of that name" in bad()
    sys.modules.pop("model_zoo.Other.src")
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
def test_checkpoint_that_does_not_fit_is_broken_malicious_or_absent(trained, bad, mode):
    name = ".model" if mode == "--eval-only" else ".resume"
    path = trained.file(name)
    original = path.read_bytes()
    path.write_bytes(original[:200])
    assert "is not readable" in bad(mode) or "is refused" in bad(mode)
    torch.save({"w": shutil.rmtree}, path)
    assert "is refused" in bad(mode)
    path.unlink()
    assert "does not exist" in bad(mode)
    path.write_bytes(original)
    trained.write_configs({"Tiny_test": {"hidden_units": [5]}})
    message = "does not fit the model" if mode == "--eval-only" else "the configuration differs in hidden_units"
    assert message in bad(mode)


def test_not_finite_loss_is_one_line_and_exit_code_1(trained, capsys):
    before = {name: trained.file(name).read_bytes() for name in (".model", ".resume")}
    results = (trained.folder / "config.csv").read_bytes()
    trained.write_configs({"Tiny_test": {"fault": "nan_prediction"}})
    capsys.readouterr()
    assert trained.run() == 1
    error = capsys.readouterr().err
    assert error.splitlines()[-1].startswith("error: the loss is not finite at epoch 1, batch 3")
    assert "Traceback" not in error
    assert {name: trained.file(name).read_bytes() for name in before} == before
    assert (trained.folder / "config.csv").read_bytes() == results


def test_no_best_checkpoint_is_one_line_and_exit_code_1(trained, capsys):
    weights = trained.file(".model").read_bytes()
    trained.write_configs({"Tiny_test": {"fault": "nan_evaluation"}})
    assert trained.run() == 1
    assert "error: no evaluation gave a finite monitor (AUC)" in capsys.readouterr().err
    assert trained.file(".model").read_bytes() == weights


@pytest.mark.parametrize("victim", ["torch.save", "log"])
def test_full_disk(trained, capsys, monkeypatch, victim):
    weights = trained.file(".model").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if victim == "log":
        monkeypatch.setattr(logging.FileHandler, "flush", full)
    else:
        monkeypatch.setattr(victim, full)
    capsys.readouterr()
    assert trained.run() == 2
    error = capsys.readouterr().err
    assert re.search(r"error: cannot write .*: No space left on device\n$", error) and "Traceback" not in error
    assert trained.file(".model").read_bytes() == weights
    assert not list(trained.file(".model").parent.glob("*.tmp"))


def test_full_disk_while_the_data_set_is_built(workspace, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "part.npz")

    monkeypatch.setattr("dien_fuxictr.experiment.experiment.prepare_dataset", full)
    assert workspace.run() == 2
    assert capsys.readouterr().err.endswith("error: cannot write part.npz: No space left on device\n")


@pytest.mark.parametrize("place", ["before training", "in training", "while it scores"])
def test_bugs_keep_their_traceback_in_the_runs_log(trained, capsys, monkeypatch, place):
    def bug(*_, **__):
        raise FileNotFoundError(2, "No such file", "x")

    before = trained.file(".log").read_text()
    target = {"before training": "experiment.prepare_dataset", "in training": "training.trainer.take_step"}
    monkeypatch.setattr(f"dien_fuxictr.experiment.{target.get(place, 'evaluation.new_rows.Encoder.load')}", bug)
    capsys.readouterr()
    (trained.folder / "new.csv").touch()
    assert trained.run(*(["--predict", "new.csv"] if place == "while it scores" else [])) == 1
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.splitlines()[-1].startswith("error: unexpected FileNotFoundError in ")
    assert error.endswith("No such file: 'x'; the traceback is in checkpoints/tiny/Tiny_test.log\n")
    log = trained.file(".log").read_text()
    assert log.startswith(before) and log.endswith("FileNotFoundError: [Errno 2] No such file: 'x'\n")
    assert log.count("Traceback (most recent call last):") == 1


def test_a_bug_after_the_first_step_is_below_what_the_run_has_logged(workspace, capsys, monkeypatch):
    def bug(*_, **__):
        raise RuntimeError("a bug")

    monkeypatch.setattr("dien_fuxictr.experiment.training.trainer.evaluate", bug)
    assert workspace.run() == 1
    log = workspace.file(".log").read_text()
    assert log.index("Start training") < log.index("Traceback (most recent call last):")
    assert log.endswith("RuntimeError: a bug\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("prepare_dataset", "interrupted; nothing was saved"),
        ("evaluate", "interrupted after training; --resume evaluates its weights"),
    ],
)
def test_signals_outside_of_training(workspace, capsys, monkeypatch, number, code, place, line):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may be started with SIGINT ignored
    try:
        with monkeypatch.context() as patch:
            patch.setattr(f"dien_fuxictr.experiment.experiment.{place}", lambda *_, **__: os.kill(os.getpid(), number))
            assert workspace.run() == code
    finally:
        signal.signal(signal.SIGINT, usual)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {line}"
    assert workspace.run("--resume") == (0 if "--resume" in line else 2)


@pytest.mark.parametrize("output", ["--report", "results", "--out"])
def test_what_cannot_be_written_ends_the_command_before_its_work(trained, bad, monkeypatch, output):
    def works(*_, **__):
        raise AssertionError("it has begun")

    monkeypatch.setattr(Experiment, "prepare", works)
    monkeypatch.setattr(Experiment, "predict", works)
    (trained.folder / "file").touch()
    if output == "results":
        (trained.folder / "config.csv").unlink()
        (trained.folder / "config.csv").mkdir()
        assert "cannot write config.csv: it exists and is no file" in bad()
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
    line = f"--out {out} is the file of --predict rows.csv: the scores need another one"
    assert line in bad("--predict", "rows.csv", "--out", out)


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


def test_help_teaches(workspace, capsys):
    with pytest.raises(SystemExit) as error:
        workspace.run("--help")
    text = capsys.readouterr().out
    assert error.value.code == 0 and "examples:" in text and "exit code:" in text


def test_user_error_is_printed_on_one_line(workspace, capsys, monkeypatch):
    def fail(*_, **__):
        raise UserError("two\nlines")

    monkeypatch.setattr("dien_fuxictr.experiment.experiment.prepare_dataset", fail)
    assert workspace.run() == 2
    assert capsys.readouterr().err.endswith("error: two lines\n")
