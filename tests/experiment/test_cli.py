"""Command line: what a run leaves behind, and its modes."""

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dien_fuxictr.experiment.configuration.yaml_files import ConfigLoader

ROOT = Path(__file__).parents[2]
RESULT = (
    r" \d{8}-\d{6},\[command\] python .*,\[exp_id\] Tiny_test,\[dataset_id\] tiny,\[train\] N.A.,"
    r"\[val\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+,\[test\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+\n"
)


def metrics_lines(text: str) -> list[str]:
    return re.findall(r"\[Metrics\] (AUC: \S+ - gAUC: \S+ - logloss: \S+)", text)


def test_run_writes_log_weights_and_the_zoos_result_line(trained):
    log = trained.file(".log").read_text()
    assert log.count("FuxiCTR version") == 1 and "Start training: 7 batches/epoch" in log
    assert len(metrics_lines(log)) == 2
    assert re.fullmatch(RESULT, (trained.folder / "config.csv").read_text())
    assert set(torch.load(trained.file(".model"), weights_only=True)) >= {"dnn.mlp.0.weight"}


def test_verbose_shows_the_lines_of_the_log(workspace, capsys):
    assert workspace.run("--verbose") == 0
    shown = capsys.readouterr().err.splitlines()
    assert set(workspace.file(".log").read_text().splitlines()) <= set(shown)


def test_a_run_shows_head_evaluations_metrics_and_files(workspace, capsys):
    assert workspace.run() == 0
    shown = capsys.readouterr()
    head, *lines = shown.err.splitlines()
    assert head == "Tiny_test: Tiny on data set tiny" and not re.search(r"\r|INFO|\[Metrics\]", shown.err + shown.out)
    assert lines[0].startswith("  settings  ") and "  data      200 training rows, 80 validation rows" in lines
    evaluations = [line for line in lines if line.startswith("epoch ")]
    assert len(evaluations) == 3
    line = r"epoch 1/3  step  7/21  00:\d\d  loss 0\.\d{4}  validation AUC 0\.\d{4}  best so far"
    assert re.fullmatch(line, evaluations[0])
    figures = re.findall(r"(\d\.\d+)", " ".join(metrics_lines(workspace.file(".log").read_text())))
    table, files = shown.out.split("\n\n")
    assert re.findall(r"\d\.\d+", table) == [f"{float(figure):.4f}" for figure in figures]
    assert [line.split()[0] for line in files.splitlines()] == ["weights", "log", "results"]
    assert all(Path(line.split()[1]).is_file() for line in files.splitlines())


def test_tensorboard_does_not_change_a_seeded_run(trained):
    first = torch.load(trained.file(".model"), weights_only=True)
    figures = metrics_lines(trained.file(".log").read_text())
    assert trained.run("--tensorboard") == 0
    again = torch.load(trained.file(".model"), weights_only=True)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len(figures) == 2 and metrics_lines(trained.file(".log").read_text()) == figures
    lines = (trained.folder / "config.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[0].split("[val]")[1] == lines[1].split("[val]")[1]


def test_eval_only_repeats_metrics_and_appends_log(trained, capsys):
    table = capsys.readouterr().out.split("\n\n")[0]
    figures = metrics_lines(trained.file(".log").read_text())
    results = (trained.folder / "config.csv").read_bytes()
    weights = trained.file(".model").read_bytes()
    assert trained.run("--eval-only") == 0
    assert capsys.readouterr().out.split("\n\n")[0] == table
    assert metrics_lines(trained.file(".log").read_text()) == figures * 2
    assert trained.file(".model").read_bytes() == weights
    assert (trained.folder / "config.csv").read_bytes() == results


def test_resume_of_a_finished_run_just_evaluates(trained, capsys):
    table = capsys.readouterr().out.split("\n\n")[0]
    assert trained.run("--resume") == 0
    shown = capsys.readouterr()
    assert shown.out.split("\n\n")[0] == table and "the training had finished" in shown.err
    assert trained.file(".log").read_text().count("Start training") == 1


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
    run = subprocess.run(shell, shell=True, cwd=root, capture_output=True, text=True, timeout=600)
    assert run.stdout.startswith("attention_activation: Dice") and run.stderr == ""


def test_show_config_warns_of_anothers_base(workspace, capsys):
    folder = workspace.folder / "config" / "model_config"
    folder.mkdir()
    (workspace.folder / "config" / "model_config.yaml").rename(folder / "Z.yaml")
    (folder / "A.yaml").write_text("Plain: {dataset_id: tiny}")
    assert workspace.run("--show-config", expid="Plain") == 0
    assert "warning: config/model_config/A.yaml has no Base; " in capsys.readouterr().err


def test_progress_bar_in_a_terminal_unless_verbose_is_0(workspace, capsys, monkeypatch):
    for module in ("experiment.training.training_progress", "common.progress"):  # the first imports from the second
        monkeypatch.setattr(f"dien_fuxictr.{module}.has_terminal", lambda: True)
    assert workspace.run() == 0
    assert "|" not in capsys.readouterr().err
    workspace.write_configs({"Tiny_test": {"verbose": 1}})
    assert workspace.run() == 0
    shown = capsys.readouterr()
    assert "epoch 1/3   0%|" in shown.err and "\r" not in shown.out


def test_a_line_replaces_the_bar_without_a_terminal(workspace, capsys, monkeypatch):
    monkeypatch.setattr("dien_fuxictr.experiment.training.training_progress.LINE_SECONDS", 0)
    workspace.write_configs({"Tiny_test": {"verbose": 1, "epochs": 1}})
    assert workspace.run() == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 8 and "AUC" not in lines[0] and "|" not in lines[0] and lines[-1].endswith("best so far")


@pytest.mark.skipif(sys.platform == "win32", reason="pty")
def test_lines_stand_above_the_bar_in_a_terminal(workspace):
    import pty

    workspace.write_configs({"Tiny_test": {"verbose": 1, "monitor": "AUC", "remark": "x"}})
    leader, terminal = pty.openpty()
    command = [sys.executable, "-m", "dien_fuxictr.experiment", "--expid", "Tiny_test"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=workspace.folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):  # the terminal's end
        while part := os.read(leader, 1 << 16):
            shown += part
    os.close(leader)
    assert process.wait() == 0, shown.decode()
    lines = [line.rsplit("\r", 1)[-1] for line in shown.decode().replace("\r\n", "\n").rstrip().split("\n")]
    assert lines[0] == "Tiny_test: Tiny on data set tiny" and b"epoch 1/3   0%|" in shown
    assert sum(line.startswith("warning: ") for line in lines) == 1
    assert sum(" validation AUC " in line and line.startswith("epoch ") for line in lines) == 3
    assert not [line for line in lines if "%|" in line], "the bar has vanished"
    assert lines[-1].startswith("results ")


def test_a_lost_stderr_ends_no_training(workspace):
    command = [sys.executable, "-m", "dien_fuxictr.experiment", "--expid", "Tiny_test"]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        command,
        cwd=workspace.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=writer,
        text=True,
    )
    os.close(writer)
    assert "validation" in process.communicate()[0] and process.returncode == 0
    assert workspace.file(".model").is_file()


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


def test_number_of_threads(workspace):
    workspace.write_configs({"Tiny_test": {"num_threads": 2, "epochs": 1}})
    assert workspace.run() == 0
    assert torch.get_num_threads() == 2


def test_regression(workspace):
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
    text = workspace.file(".log").read_text()
    assert re.search(r"Save best model: monitor\(min\)=0\.\d+", text)
    assert len(re.findall(r"\[Metrics\] RMSE: 0\.\d+ - MAE: 0\.\d+", text)) == 2


def test_validation_file_equal_to_the_test_file_is_one_warning(workspace, capsys):
    workspace.write_configs({"Tiny_test": {}}, {"test_data": "./data/tiny/valid.npz"})
    assert workspace.run() == 0
    assert capsys.readouterr().err.count("warning: ") == 1


def test_help_teaches(workspace, capsys):
    with pytest.raises(SystemExit) as error:
        workspace.run("--help")
    text = capsys.readouterr().out
    assert error.value.code == 0 and "examples:" in text and "exit code:" in text
