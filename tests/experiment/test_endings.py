"""How a run ends that goes wrong: its exit code, its line, and what it leaves."""

import logging
import os
import re
import resource
import signal

import pytest

from dien_fuxictr.common.errors import UserError


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


def test_full_disk_for_scores(workspace, capsys):
    workspace.use_csv(rows=300)
    assert workspace.run() == 0
    capsys.readouterr()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        code = workspace.run("--predict", "test.csv", "--out", "scores.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 2
    assert capsys.readouterr().err.endswith("error: cannot write scores.csv: File too large\n")
    assert not list(workspace.folder.glob("*scores*"))


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


def test_late_bug_is_logged_after_the_run(workspace, capsys, monkeypatch):
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
        ("experiment.prepare_dataset", "interrupted; nothing was saved"),
        ("trained_model.evaluate", "interrupted after training; --resume evaluates its weights"),
    ],
)
def test_signals_outside_of_training(workspace, capsys, monkeypatch, number, code, place, line):
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may be started with SIGINT ignored
    try:
        with monkeypatch.context() as patch:
            patch.setattr(f"dien_fuxictr.experiment.{place}", lambda *_, **__: os.kill(os.getpid(), number))
            assert workspace.run() == code
    finally:
        signal.signal(signal.SIGINT, usual)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {line}"
    assert workspace.run("--resume") == (0 if "--resume" in line else 2)


def test_user_error_is_printed_on_one_line(workspace, capsys, monkeypatch):
    def fail(*_, **__):
        raise UserError("two\nlines")

    monkeypatch.setattr("dien_fuxictr.experiment.experiment.prepare_dataset", fail)
    assert workspace.run() == 2
    assert capsys.readouterr().err.endswith("error: two lines\n")
