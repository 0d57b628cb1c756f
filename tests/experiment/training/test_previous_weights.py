"""A new run keeps the weights of the run before."""

import errno
import os

import pytest
import torch
from made_training import Interrupt, interrupted, scripted

from dien_fuxictr.experiment.training.trainer import Trainer


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_new_run_keeps_the_weights_of_the_run_before(trained, monkeypatch, links):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    files = [trained.file(".model").read_bytes()]
    assert not trained.file(".previous.model").exists()
    for seed in (8, 9):
        assert trained.run("--set", f"seed={seed}") == 0
        assert trained.file(".previous.model").read_bytes() == files[-1]
        files.append(trained.file(".model").read_bytes())
    assert len(set(files)) == 3


def test_a_resumed_run_keeps_them_too(parts):
    Trainer(parts()[0]).fit(*parts()[1:], 1)
    model, train, valid = parts(seed=8)
    trainer = Trainer(model)
    old = trainer.state.best_path.read_bytes()
    interrupted(trainer, 8)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 3)
    assert trainer.progress.saved_best
    model, train, valid = parts(seed=8)
    resumed = Trainer(model)
    resumed.resume()
    resumed.model._save_best_only = False  # each evaluation writes weights
    resumed.fit(train, valid, 3)
    assert resumed.state.best_path.with_suffix(".previous.model").read_bytes() == old


def test_early_resume_keeps_previous_weights(parts, monkeypatch):
    Trainer(parts()[0]).fit(*parts()[1:], 1)
    model, train, valid = parts(seed=8)
    trainer = Trainer(model, checkpoint_seconds=0)
    old = trainer.state.best_path.read_bytes()
    interrupted(trainer, 3)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 1)
    assert trainer.state.best_path.read_bytes() == old and trainer.state.file.path.exists()
    model, train, valid = parts(seed=8)
    resumed = Trainer(model)
    resumed.resume()
    resumed.fit(train, valid, 1)
    assert (
        resumed.state.best_path.with_suffix(".previous.model").read_bytes()
        == old
        != resumed.state.best_path.read_bytes()
    )


def test_the_checkpoint_is_there_while_its_successor_is_written(parts, monkeypatch):
    Trainer(parts()[0]).fit(*parts()[1:], 1)
    model, train, valid = parts(seed=8)
    trainer = Trainer(model)
    old, seen = trainer.state.best_path.read_bytes(), []
    replace = os.replace

    def watched(new, path):
        if path == trainer.state.best_path:
            seen.append(path.read_bytes())
        replace(new, path)

    monkeypatch.setattr(os, "replace", watched)
    scripted(trainer, monkeypatch, [0.7])
    trainer.fit(train, valid, 1)
    assert seen == [old] and torch.load(trainer.state.best_path, weights_only=True)
