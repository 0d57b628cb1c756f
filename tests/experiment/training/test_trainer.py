"""Trainer against the zoo's own loop, and its stops."""

import logging
import math
from pathlib import Path

import pytest
import torch
from made import DEFAULTS, features, make_batch, make_feature_map
from made_training import assert_equal, scripted, weights

from dien_fuxictr.common.errors import TrainingError
from dien_fuxictr.experiment.training.early_stopping import MIN_DELTA
from dien_fuxictr.experiment.training.observer import Observer
from dien_fuxictr.experiment.training.optimizers import fuse
from dien_fuxictr.experiment.training.trainer import Trainer
from model_zoo.DIEN.src import DIEN

SETTINGS = [
    {},
    {"eval_steps": 3},
    {"eval_steps": 10},  # beyond an epoch
    {"monitor": {"AUC": 1, "logloss": -1}},
    {"monitor": "logloss", "monitor_mode": "min"},
    {"early_stop_patience": 1, "epochs": 6},
    {"reduce_lr_on_plateau": False},
    {"save_best_only": False},
    {"embedding_regularizer": 1e-3, "net_regularizer": "l1(1e-4)", "max_gradient_norm": 0.05},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_and_log_equal_the_zoos_loop(parts, caplog, settings):
    caplog.set_level(logging.INFO)
    epochs, norm = settings.get("epochs", 3), settings.get("max_gradient_norm", 10.0)
    results = []
    for own in (True, False):
        model, train, valid = parts(**settings)
        caplog.clear()
        if own:
            Trainer(model, norm).fit(train, valid, epochs)
        else:
            Path("checkpoints/tiny").mkdir(parents=True, exist_ok=True)
            fuse(model.optimizer)
            model.fit(train, epochs=epochs, validation_data=valid, max_gradient_norm=norm)
        results.append((weights(model), [record.getMessage() for record in caplog.records]))
    assert_equal(results[0][0], results[1][0])
    if "eval_steps" in settings:  # the zoo drops the steps since the last evaluation at the end of an epoch
        results = [(w, [m for m in messages if not m.startswith("Train loss")]) for w, messages in results]
    assert results[0][1] == results[1][1]


def test_large_eval_steps_evaluate_at_the_end(parts, caplog):
    caplog.set_level(logging.INFO)
    model, train, valid = parts(eval_steps=500)
    Trainer(model).fit(train, valid, 2)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if message.startswith("Evaluation @epoch")] == [
        "Evaluation @epoch 2 - batch 7: "
    ]
    assert "eval_steps = 500 exceeds the 14 steps of the training; evaluating at the end" in messages


def test_patience_stops_and_learning_rate_falls_on_a_plateau(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=2, learning_rate=0.1)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.7, 0.6, 0.7])
    trainer.fit(train, valid, 9)
    assert trainer.progress.epoch == 2 and trainer.progress.stop
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_patience_counts_consecutive_evaluations(parts, monkeypatch, mode):
    """Restart the count at an improvement of at least a millionth."""
    model, train, valid = parts(early_stop_patience=2, monitor_mode=mode)
    sign = 1 if mode == "max" else -1
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [sign * value for value in (0.5, 0.4, 0.6, 0.6, 0.6 + 5e-7)])
    trainer.fit(train, valid, 9)
    assert trainer.progress.stop and trainer.progress.epoch == 4
    assert trainer.progress.best_metric == sign * 0.6


def test_a_gain_of_a_millionth_is_an_improvement(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=1)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.0, MIN_DELTA, 0.0])
    trainer.fit(train, valid, 9)
    assert trainer.progress.best_metric == MIN_DELTA and trainer.progress.epoch == 2


def test_finite_evaluations_are_saved_if_not_best_only(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=3, save_best_only=False)
    trainer, saved = Trainer(model), []
    scripted(trainer, monkeypatch, [0.7, 0.6, math.nan, 0.5])
    monkeypatch.setattr(trainer.state, "save_weights", lambda: saved.append(trainer.progress.total_steps // 7))
    with pytest.raises(TrainingError):  # nothing was written here
        trainer.fit(train, valid, 9)
    assert saved == [1, 2, 4]


def test_nan_metric_is_not_an_improvement(parts, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    model, train, valid = parts(early_stop_patience=2, save_best_only=False)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.7, math.nan, math.nan])
    best = {}
    write = trainer.state.save_weights
    monkeypatch.setattr(trainer.state, "save_weights", lambda: (best.update(weights(model)), write()))
    trainer.fit(train, valid, 9)
    assert trainer.progress.best_metric == 0.7 and trainer.progress.stopping_steps == 2
    assert_equal(weights(model), best)
    assert "Monitor(max)=nan STOP!" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_run_without_a_finite_monitor_is_an_error(parts, monkeypatch, mode):
    model, train, valid = parts()
    Trainer(model).fit(train, valid, 1)
    old = Trainer(model).state.best_path
    content = old.read_bytes()
    model, train, valid = parts(monitor_mode=mode, early_stop_patience=2)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [math.nan, math.inf if mode == "max" else -math.inf])
    with pytest.raises(TrainingError, match=r"no evaluation gave a finite monitor \(AUC\)"):
        trainer.fit(train, valid, 5)
    assert old.read_bytes() == content


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan_prediction", r"the loss is not finite at epoch 1, batch 3 \(step 3\): a prediction is not finite"),
        ("nan_auxiliary", r"the loss is not finite at epoch 1, batch 1 .*: the auxiliary loss is nan"),
        ("inf_loss", r"the loss is not finite at epoch 1, batch 1 .*: the target loss is not finite"),
        ("nan_gradient", r"the gradient is not finite at epoch 1, batch 2 .*: the gradient of dnn.mlp.0.weight is not"),
    ],
)
def test_not_finite_stops_before_the_optimizer_moves(parts, monkeypatch, fault, message):
    model, train, valid = parts(fault=fault)
    seen = []
    step = model.optimizer.step
    monkeypatch.setattr(model.optimizer, "step", lambda: (step(), seen.append(weights(model))))
    initial = weights(model)
    with pytest.raises(TrainingError, match=message):
        Trainer(model).fit(train, valid, 1)
    parameters = dict(model.named_parameters())
    last = seen[-1] if seen else initial
    assert all(torch.equal(parameters[name], last[name]) for name in parameters)
    assert not Trainer(model).state.best_path.exists()


def test_regularisation_that_overflows_is_named(parts):
    model, train, valid = parts(net_regularizer=1e38)
    with torch.no_grad():
        model.dnn.mlp[0].weight.mul_(1e10)
    with pytest.raises(TrainingError, match="the regularisation is inf"):
        Trainer(model).fit(train, valid, 1)


class Losses(Observer):
    """Keeps the losses of each step."""

    def __init__(self) -> None:
        self.every: list[dict[str, float]] = []

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.every.append(losses)


def test_target_loss_is_observed_separately():
    seen = Losses()
    parts = {"aux_loss_alpha": 0.5, "embedding_regularizer": 0.1, "net_regularizer": 0.2}
    model = DIEN(make_feature_map(features()), **{**DEFAULTS, **parts}).train()
    regularisation = model.regularization_loss().item()
    Trainer(model, observers=[seen]).train_step(make_batch([3, 5, 0, 2]))
    (losses,) = seen.every
    assert losses["target"] == pytest.approx(losses["train"] - 0.5 * losses["auxiliary"] - regularisation, abs=1e-5)
    assert min(losses["auxiliary"], regularisation) > 0.1


def test_gradients_of_an_assertion_on_the_gpu_end_in_one_line(parts, monkeypatch):
    model, train, valid = parts()

    def assertion(batch):
        raise RuntimeError("CUDA error: device-side assert triggered\nmore lines")

    monkeypatch.setattr(model, "forward", assertion)
    with pytest.raises(TrainingError, match=r"epoch 1, batch 1 .*assertion failed on the GPU"):
        Trainer(model).fit(train, valid, 1)


def test_other_runtime_errors_keep_their_type(parts, monkeypatch):
    model, train, valid = parts()
    monkeypatch.setattr(model, "compute_loss", lambda *_: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        Trainer(model).fit(train, valid, 1)
