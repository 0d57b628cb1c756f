"""Resumption of a training: exact, or one clear line."""

import random

import numpy as np
import pytest
import torch
from made_training import Interrupt, assert_equal, interrupt, interrupted, scripted, weights

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.experiment.training.trainer import Trainer
from model_zoo.DIEN.src.layers.dropout import dropout_masks, replace_dropout


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["written each step", "written at evaluations"])
@pytest.mark.parametrize("at", [1, 2, 4, 7, 10, 20])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(parts, at, every):
    settings = {"eval_steps": 3, "net_dropout": 0.4, "learning_rate": 0.1}
    model, train, valid = parts(**settings)
    whole = Trainer(model)
    whole.fit(train, valid, 3)
    expected, stopping = weights(model), whole.progress.stopping_steps
    generators = (torch.rand(3), np.random.rand(3), random.random())
    whole.state.best_path.unlink()
    whole.state.file.path.unlink()

    model, train, valid = parts(**settings)
    trainer = Trainer(model, checkpoint_seconds=every)
    interrupted(trainer, at)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 3)

    model, train, valid = parts(**settings, seed=99)
    resumed = Trainer(model, checkpoint_seconds=every)
    if not resumed.state.file.path.exists():
        assert every > 0 and at <= 3
        return
    resumed.resume()
    assert 0 < resumed.progress.total_steps <= at
    resumed.fit(train, valid, 3)
    assert_equal(weights(model), expected)
    assert resumed.progress.stopping_steps == stopping and resumed.progress.total_steps == 21
    again = (torch.rand(3), np.random.rand(3), random.random())
    assert torch.equal(generators[0], again[0]) and np.array_equal(generators[1], again[1])
    assert generators[2] == again[2]


def test_resume_after_early_stop_trains_no_more(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=1)
    trainer = Trainer(model)
    with monkeypatch.context() as patch:
        scripted(trainer, patch, [0.7, 0.6])
        patch.setattr("dien_fuxictr.experiment.training.checkpoint.load_weights", lambda *_: interrupt())
        with pytest.raises(Interrupt):
            trainer.fit(train, valid, 9)
    model, train, valid = parts(early_stop_patience=1)
    trainer = Trainer(model)
    trainer.resume()
    trainer.fit(train, valid, 9)
    assert trainer.progress.total_steps == 14


def test_finished_run_leaves_a_small_mark_and_its_weights(parts):
    model, train, valid = parts()
    trainer = Trainer(model)
    trainer.fit(train, valid, 1)
    expected = weights(model)
    mark = torch.load(trainer.state.file.path, weights_only=True)
    assert set(mark) == {"finished", "config", "progress"}
    rows = trainer.progress.train_rows
    model, train, valid = parts(seed=3)
    trainer = Trainer(model)
    trainer.resume()
    trainer.fit(train, valid, 1)
    assert_equal(weights(model), expected)
    assert trainer.progress.train_rows == rows


def test_resume_needs_a_state_of_the_same_configuration(parts):
    model, train, valid = parts()
    with pytest.raises(UserError, match="nothing to resume"):
        Trainer(model).resume()
    Trainer(model, config={"learning_rate": 0.1, "gpu": 0, "gone": 1}).fit(train, valid, 1)
    with pytest.raises(
        UserError,
        match=r"differs in gone \(1 -> absent\), learning_rate \(0.1 -> 0.2\); restore it, or train without --resume$",
    ):
        Trainer(model, config={"learning_rate": 0.2, "gpu": 1}).resume()
    Trainer(model, config={"learning_rate": 0.1, "gpu": 1, "verbose": 3, "gone": 1}).resume()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "is not a resume state"),
        ({"config": 3}, "is not a resume state"),
        ({"progress": {"steps": 3}}, "is not a resume state of this version: .*'steps'"),
        (
            {"optimizer": {"state": {}, "param_groups": []}},
            "does not match the optimizer: loaded state dict has a diff",
        ),
        ({"model": {"more": 1}}, "does not match the model"),
    ],
    ids=str,
)
def test_invalid_state_is_one_line(parts, change, message):
    model, train, valid = parts()
    interrupting = Trainer(model)
    interrupted(interrupting, 8)
    with pytest.raises(Interrupt):
        interrupting.fit(train, valid, 2)
    path = interrupting.state.file.path
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(UserError, match=message):
        Trainer(parts()[0]).resume()


@pytest.mark.parametrize("key", ["batch_size", "seed", "num_threads", "epochs", "metrics"])
def test_what_changes_the_result_may_not_change(parts, key):
    model, train, valid = parts()
    Trainer(model, config={key: 1}).fit(train, valid, 1)
    with pytest.raises(UserError, match=rf"differs in {key} \(1 -> 2\); restore it, or train without --resume$"):
        Trainer(model, config={key: 2}).resume()


def test_weights_newer_than_the_state_belong_to_the_run(parts, monkeypatch):
    """Resume after a kill between writing weights and state.

    On a GPU the repeated evaluation need not be equal.
    """
    model, train, valid = parts(early_stop_patience=1)
    killed = Trainer(model)
    with monkeypatch.context() as patch:
        scripted(killed, patch, [0.6, 0.7])
        write = killed.state.save
        patch.setattr(killed.state, "save", lambda: interrupt() if killed.progress.epoch else write())
        with pytest.raises(Interrupt):
            killed.fit(train, valid, 9)
    model, train, valid = parts(early_stop_patience=1)
    resumed = Trainer(model)
    resumed.resume()
    scripted(resumed, monkeypatch, [0.5])
    resumed.fit(train, valid, 9)
    assert resumed.progress.total_steps == 14


def test_older_state_is_removed_before_new_weights(parts, monkeypatch):
    """Remove the older state before writing weights.

    A resume in between would otherwise continue the older run and end with the new weights.
    """
    model, train, valid = parts()
    Trainer(model).fit(train, valid, 1)
    model, train, valid = parts()
    killed = Trainer(model)
    monkeypatch.setattr(killed.state, "save", interrupt)
    with pytest.raises(Interrupt):
        killed.fit(train, valid, 1)
    assert killed.state.best_path.exists() and not killed.state.file.path.exists()


def test_fresh_run_removes_old_state_at_first_write(parts):
    model, train, valid = parts()
    first = Trainer(model)
    first.fit(train, valid, 1)
    model, train, valid = parts()
    second = Trainer(model)
    interrupted(second, 5)
    with pytest.raises(Interrupt):
        second.fit(train, valid, 1)
    assert first.state.file.path.exists() and first.state.best_path.exists()
    model, train, valid = parts(fault="nan_evaluation", early_stop_patience=1)
    with pytest.raises(TrainingError):
        Trainer(model).fit(train, valid, 1)
    assert not torch.load(first.state.file.path, weights_only=True)["finished"]


def test_zoo_parquet_loader_warns_on_resume(parts, caplog, monkeypatch):
    from fuxictr.pytorch.dataloaders.parquet_dataloader import ParquetDataLoader

    class Shuffled(ParquetDataLoader):
        def __init__(self, loader):
            self.loader, self.shuffle = loader, True

        def __len__(self):
            return len(self.loader)

        def __iter__(self):
            return iter(self.loader)

    model, train, valid = parts()
    trainer = Trainer(model, checkpoint_seconds=0)
    interrupted(trainer, 3)
    with pytest.raises(Interrupt):
        trainer.fit(Shuffled(train), valid, 1)
    assert "without the seed" not in caplog.text
    trainer = Trainer(model)
    trainer.resume()
    trainer.fit(Shuffled(train), valid, 1)
    assert "shuffles without the seed" in caplog.text


@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_state_from_before_the_masks_of_today_is_refused_with_dropout(parts, rate):
    def trainer():
        model, *loaders = parts(net_dropout=rate)
        replace_dropout(model, dropout_masks)
        return Trainer(model), loaders

    interrupting, loaders = trainer()
    interrupted(interrupting, 8)
    with pytest.raises(Interrupt):
        interrupting.fit(*loaders, 2)
    path = interrupting.state.file.path
    state = torch.load(path, weights_only=True)
    assert ("dropout masks" in state) == (rate > 0)
    trainer()[0].resume()
    torch.save({name: part for name, part in state.items() if name != "dropout masks"}, path)
    if rate:
        with pytest.raises(UserError, match=r"dropout has other masks; train without --resume$"):
            trainer()[0].resume()
    else:
        trainer()[0].resume()
