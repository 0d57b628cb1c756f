"""Weights that no training wrote, and metrics that are not numbers."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_training import Interrupt, interrupt, interrupted

from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.resume import DATA_CONTENT, check_weights
from dien_fuxictr.experiment.training.trainer import Trainer


def flip(file: Path, name: str = "dnn.mlp.0.weight") -> None:
    """Invert every bit of a tensor in a file of torch.save."""
    content = file.read_bytes()
    state = torch.load(file, weights_only=True)
    values = (state if name in state else state["model"])[name].numpy().tobytes()
    assert content.count(values) == 1
    file.write_bytes(content.replace(values, bytes(255 - byte for byte in values)))


@pytest.fixture
def on_csv(workspace, capsys):
    """Return a run on raw files, so that new rows can be scored."""
    workspace.use_csv()
    assert workspace.run() == 0
    return workspace


@pytest.mark.parametrize("mode", [["--eval-only"], ["--resume"], ["--predict", "test.csv"]], ids=" ".join)
def test_flipped_bytes_are_refused_by_the_digest(on_csv, bad, mode):
    flip(on_csv.file(".model"))
    line = bad(*mode)
    assert "checkpoints/tiny/Tiny_test.model does not match the digest in " in line
    assert "checkpoints/tiny/Tiny_test.resume: it is damaged" in line


@pytest.fixture(params=["more rows", "min_categr_count"])
def rebuilt(on_csv, request):
    """Return a run whose data set another experiment has built again, from other rows or with another key."""
    config = on_csv.folder / "config"
    file = config / "model_config.yaml"
    file.write_text(yaml.dump({**yaml.safe_load(file.read_text()), "Other": {}}))
    if request.param == "more rows":
        rows = (on_csv.folder / "train.csv").read_text()
        (on_csv.folder / "train.csv").write_text(rows + "\n".join(rows.splitlines()[-1:0:-1]) + "\n")
    else:
        file = config / "dataset_config.yaml"
        entry = yaml.safe_load(file.read_text())
        file.write_text(yaml.dump({"tiny": {**entry["tiny"], "min_categr_count": 0}}))
    assert on_csv.run("--rebuild", expid="Other") == 0
    return on_csv


@pytest.mark.parametrize("mode", [["--eval-only"], ["--predict", "test.csv"]], ids=" ".join)
def test_weights_are_refused_after_a_rebuild(rebuilt, bad, mode):
    line = bad(*mode)
    assert line.startswith("error: checkpoint checkpoints/tiny/Tiny_test.model does not fit its data set, which has ")
    assert line.endswith("train again (run_expid.py --expid Tiny_test)")
    assert rebuilt.run(*mode, expid="Other") == rebuilt.run() == rebuilt.run(*mode) == 0


def test_a_rebuild_from_the_same_keeps_the_weights(on_csv):
    assert on_csv.run("--eval-only", "--rebuild") == on_csv.run("--eval-only") == 0


def test_weights_that_know_only_the_files_are_kept(on_csv, bad):
    state = torch.load(on_csv.file(".resume"), weights_only=True)
    files = {role: seen for role, seen in ast.literal_eval(state["config"][DATA_CONTENT]).items() if role != "keys"}
    torch.save({**state, "config": {**state["config"], DATA_CONTENT: repr(files)}}, on_csv.file(".resume"))
    assert on_csv.run("--eval-only") == on_csv.run("--resume") == 0
    torch.save(
        {**state, "config": {**state["config"], DATA_CONTENT: repr({**files, "more": "0"})}}, on_csv.file(".resume")
    )
    assert "does not fit its data set" in bad("--eval-only")
    assert "the configuration differs in the content of the data set;" in bad("--resume")


@pytest.mark.parametrize("mode", [["--eval-only"], ["--predict", "test.csv"]], ids=" ".join)
def test_flipped_bytes_are_refused_without_a_digest(on_csv, bad, mode):
    on_csv.file(".resume").unlink()
    flip(on_csv.file(".model"))
    assert "checkpoint checkpoints/tiny/Tiny_test.model is damaged" in bad(*mode)


def test_flipped_bytes_of_a_booster_are_refused(trained, bad):
    trained.write_configs({"Tiny_test": {"booster_checkpoint": str(trained.file(".model"))}})
    flip(trained.file(".model"))
    assert "Tiny_test.model is damaged" in bad()


def test_other_whole_weights_are_refused_by_the_digest(trained, bad):
    other = {name: value + 1 for name, value in torch.load(trained.file(".model"), weights_only=True).items()}
    torch.save(other, trained.file(".model"))
    assert "does not match the digest" in bad("--eval-only")
    trained.file(".resume").unlink()
    assert trained.run("--eval-only") == 0


def test_python_refuses_flipped_bytes(trained):
    flip(trained.file(".model"))
    with pytest.raises(UserError, match="does not match the digest"):
        open_experiment("Tiny_test").evaluate()


@pytest.mark.parametrize("suffix", [".model", ".resume"])
def test_an_interrupted_run_with_flipped_bytes_does_not_resume(parts, suffix):
    model, train, valid = parts()
    trainer = Trainer(model)
    interrupted(trainer, 8)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 2)
    flip(trainer.state.best_path.with_suffix(suffix))
    with pytest.raises(UserError, match=rf"checkpoint .*Tiny_test\{suffix} is damaged"):
        Trainer(parts()[0]).resume()


def test_resume_requires_the_best_weights(parts):
    model, train, valid = parts()
    trainer = Trainer(model)
    interrupted(trainer, 8)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 2)
    trainer.state.best_path.unlink()
    with pytest.raises(UserError, match=r"cannot resume .*: checkpoint .*Tiny_test.model does not exist"):
        Trainer(parts()[0]).resume()


def test_run_killed_before_saving_state_asks_to_resume(parts, monkeypatch):
    model, train, valid = parts()
    killed = Trainer(model)
    write = killed.state.save
    monkeypatch.setattr(killed.state, "save", lambda: interrupt() if killed.progress.epoch else write())
    monkeypatch.setattr("dien_fuxictr.experiment.training.trainer.judge", lambda *_: True)
    with pytest.raises(Interrupt):
        killed.fit(train, valid, 2)
    with pytest.raises(UserError, match="--resume continues the run"):
        check_weights(killed.state.best_path, {})


def test_damage_is_one_line_whatever_byte_is_flipped(tmp_path):
    """Flip each byte: the file raises `UserError`, or is read as it was written.

    Bytes of padding may have any value.
    """
    path = tmp_path / "a.model"
    weights = {"weight": torch.arange(1.0, 61).reshape(20, 3), "bias": torch.arange(20) / 7}
    checkpoint.save(weights, path)
    content, refused = path.read_bytes(), 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        model = torch.nn.Linear(3, 20)
        try:
            checkpoint.load_weights(model, path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
        else:
            assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert refused > 320  # at least the bytes of the tensors


def test_metrics_that_are_not_finite_are_an_error(trained, capsys):
    results = (trained.folder / "config.csv").read_bytes()
    trained.write_configs({"Tiny_test": {"fault": "nan_evaluation"}})
    capsys.readouterr()
    assert trained.run("--eval-only") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert errors == ["error: metrics of valid are not finite: AUC = nan; 80 of 80 scores are not finite"]
    assert (trained.folder / "config.csv").read_bytes() == results


def test_a_metric_by_group_without_both_classes_is_an_error(trained, capsys):
    path = trained.folder / "data" / "tiny" / "test.npz"
    arrays = dict(np.load(path))
    arrays["user"] = 1 + arrays["label"].astype(int)
    np.savez(path, **arrays)
    assert trained.run("--eval-only") == 2
    line = "error: metrics of test are not finite: gAUC = nan; the metric needs a group whose labels have both classes"
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_scores_that_are_not_finite_are_an_error(on_csv, capsys):
    weights = torch.load(on_csv.file(".model"), weights_only=True)
    torch.save({name: value * float("nan") for name, value in weights.items()}, on_csv.file(".model"))
    on_csv.file(".resume").unlink()
    capsys.readouterr()
    assert on_csv.run("--predict", "test.csv", "--out", "scores.csv") == 1
    assert "error: 60 of 60 scores are not finite" in capsys.readouterr().err
    assert not (on_csv.folder / "scores.csv").exists()
