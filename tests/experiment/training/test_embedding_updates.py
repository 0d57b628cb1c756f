"""Key `embedding_updates` in a run: values, checkpoints, resume, models."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from made_project import make_project

from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.configuration.yaml_files import read_yaml
from dien_fuxictr.experiment.training.trainer import Trainer

ROOT = Path(__file__).parents[3]
SPARSE = {
    "embedding_updates": "sparse",
    "embedding_regularizer": "l1_l2(1e-4,1e-2)",
    "eval_steps": 3,
    "learning_rate": 0.1,
}
EXPIDS = sorted(f"{folder.parent.name}_amazon" for folder in (ROOT / "model_zoo").glob("*/src"))


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Ctrl-C in step `at`."""
    train_step = Trainer.train_step

    def step(trainer, batch):
        if trainer.progress.total_steps == at:
            raise KeyboardInterrupt
        return train_step(trainer, batch)

    monkeypatch.setattr(Trainer, "train_step", step)


@pytest.mark.parametrize("at", [4, 10, 20])
def test_resumed_run_equals_the_uninterrupted_one_byte_for_byte(workspace, monkeypatch, at):
    workspace.write_configs({"Tiny_test": SPARSE})
    assert workspace.run() == 0
    expected = workspace.file(".model").read_bytes()
    shutil.rmtree(workspace.folder / "checkpoints")
    with monkeypatch.context() as patch:
        interrupt(patch, at)
        assert workspace.run() == 130
    assert workspace.run("--resume") == 0
    assert workspace.file(".model").read_bytes() == expected


def test_weights_go_over_but_no_run_resumes_with_other_updates(workspace, monkeypatch, bad):
    workspace.write_configs({"Tiny_test": {**SPARSE, "embedding_updates": "dense"}})
    with monkeypatch.context() as patch:
        interrupt(patch, 4)
        assert workspace.run() == 130
    workspace.write_configs({"Tiny_test": SPARSE})
    assert bad("--resume").endswith(
        "the configuration differs in embedding_updates ('dense' -> 'sparse'); restore it, or train without --resume"
    )
    assert workspace.run("--eval-only") == 0


def test_dense_is_the_default(workspace):
    models = []
    for updates in ({}, {"embedding_updates": "dense"}, {"embedding_updates": "sparse"}):
        workspace.write_configs({"Tiny_test": updates})
        assert workspace.run() == 0
        models.append(torch.load(workspace.file(".model"), weights_only=True))
    table = "embedding_layer.embedding_layer.embedding_layers.item.weight"
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert models[0].keys() == models[2].keys() and not torch.equal(models[0][table], models[2][table])


def test_other_values_are_refused(workspace, bad):
    workspace.write_configs({"Tiny_test": {"embedding_updates": "lazy"}})
    assert "embedding_updates = 'lazy'" in (line := bad()) and line.endswith("must be dense or sparse")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a project with one sparse, regularised epoch per experiment."""
    folder = make_project(tmp_path_factory.mktemp("project"), epochs=1, embedding_updates="sparse")
    for file in (folder / "config" / "model_config").glob("*.yaml"):
        entries = read_yaml(file)
        for entry in entries.values():
            entry |= {key: 1e-3 for key in ("regularizer", "embedding_regularizer") if key in entry}
        file.write_text(yaml.dump(entries))
    return folder


@pytest.mark.parametrize("expid", EXPIDS)
def test_shipped_experiment_trains(expid, project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert main(["--expid", expid, "--strict"]) == 0, capsys.readouterr().err
    weights = torch.load(project / "checkpoints" / "amazon" / f"{expid}.model", weights_only=True)
    assert all(value.isfinite().all() for value in weights.values())
    tables = [value for name, value in weights.items() if "embedding_layers.item_id" in name]
    assert tables and all(table[1:].any() and not table[0].any() for table in tables)
