"""The command line: what a run leaves behind, and its modes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from dien_fuxictr.experiment.configuration.yaml_files import ConfigLoader

RESULT = (
    r" \d{8}-\d{6},\[command\] python .*,\[exp_id\] Tiny_test,\[dataset_id\] tiny,\[train\] N.A.,"
    r"\[val\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+,\[test\] AUC: [\d.]+ - gAUC: [\d.]+ - logloss: [\d.]+\n"
)


def metrics_lines(text: str) -> list[str]:
    return re.findall(r"\[Metrics\] (AUC: \S+ - gAUC: \S+ - logloss: \S+)", text)


def test_run_writes_log_weights_and_the_zoos_result_line(trained, capsys):
    out = capsys.readouterr()
    log = trained.file(".log").read_text()
    assert log.count("FuxiCTR version") == 1 and "Start training: 7 batches/epoch" in log
    assert log == out.err[-len(log) :]
    assert len(metrics_lines(log)) == 2
    assert re.fullmatch(RESULT, (trained.folder / "config.csv").read_text())
    assert set(torch.load(trained.file(".model"), weights_only=True)) >= {"dnn.mlp.0.weight"}


def test_tensorboard_does_not_change_a_seeded_run(trained, capsys):
    first = torch.load(trained.file(".model"), weights_only=True)
    figures = metrics_lines(capsys.readouterr().err)
    assert trained.run("--tensorboard") == 0
    again = torch.load(trained.file(".model"), weights_only=True)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert metrics_lines(capsys.readouterr().err) == figures
    lines = (trained.folder / "config.csv").read_text().splitlines()
    assert len(lines) == 2 and lines[0].split("[val]")[1] == lines[1].split("[val]")[1]


def test_eval_only_repeats_metrics_and_appends_log(trained, capsys):
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
    run = subprocess.run(shell, shell=True, cwd=root, capture_output=True, text=True, timeout=600)
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


def test_validation_file_equal_to_the_test_file_is_one_warning(workspace, capsys):
    workspace.write_configs({"Tiny_test": {}}, {"test_data": "./data/tiny/valid.npz"})
    assert workspace.run() == 0
    assert capsys.readouterr().err.count("WARNING") == 1


def test_help_teaches(workspace, capsys):
    with pytest.raises(SystemExit) as error:
        workspace.run("--help")
    text = capsys.readouterr().out
    assert error.value.code == 0 and "examples:" in text and "exit code:" in text
