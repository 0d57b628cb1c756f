"""The trainer against the zoo's own loop, its stops, and exact resumption."""

import logging
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.torch_utils import seed_everything
from made import DEFAULTS, features, make_batch, make_feature_map

from dien_fuxictr.common.errors import TrainingError, UserError
from dien_fuxictr.experiment.evaluation.evaluate import Evaluation
from dien_fuxictr.experiment.training.early_stopping import MIN_DELTA
from dien_fuxictr.experiment.training.gradients import clip_gradients, gradient_norm
from dien_fuxictr.experiment.training.optimizers import fuse
from dien_fuxictr.experiment.training.trainer import Trainer
from model_zoo.DIEN.src import DIEN


@pytest.fixture
def parts(workspace, settings_of_tiny):
    """(model, training loader, validation loader) of a configuration, freshly seeded."""
    from model_zoo.Tiny.src import Tiny

    def build(**settings):
        params = {
            **settings_of_tiny,
            "model_id": "Tiny_test",
            "model_root": "./checkpoints/",
            "gpu": -1,
            "data_format": "npz",
            "train_data": "data/tiny/train.npz",
            "valid_data": "data/tiny/valid.npz",
            **settings,
        }
        seed_everything(params["seed"])
        feature_map = FeatureMap("tiny", "data/tiny")
        feature_map.load("data/tiny/feature_map.json", params)
        return Tiny(feature_map, **params), *RankDataLoader(feature_map, stage="train", **params)

    return build


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def interrupt() -> None:
    raise Interrupt


def scripted(trainer: Trainer, monkeypatch, values: list[float]) -> None:
    """Let the evaluations give these values of the monitor."""
    remaining = iter(values)
    nothing = np.zeros(0)
    monkeypatch.setattr(
        "dien_fuxictr.experiment.training.trainer.evaluate",
        lambda *_: Evaluation({"AUC": next(remaining)}, nothing, nothing, None, 0.0),
    )


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
    if "eval_steps" in settings:  # the zoo forgets the steps since the last evaluation where an epoch ends
        results = [(w, [m for m in messages if not m.startswith("Train loss")]) for w, messages in results]
    assert results[0][1] == results[1][1]


def test_eval_steps_beyond_the_training_evaluates_at_its_end_with_a_warning(parts, caplog):
    caplog.set_level(logging.INFO)
    model, train, valid = parts(eval_steps=500)
    Trainer(model).fit(train, valid, 2)
    messages = [record.getMessage() for record in caplog.records]
    assert [message for message in messages if message.startswith("Evaluation @epoch")] == [
        "Evaluation @epoch 2 - batch 7: "
    ]
    assert "eval_steps=500 exceeds the 14 steps of the training: evaluating at its end" in messages


def test_patience_stops_and_learning_rate_falls_on_a_plateau(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=2, learning_rate=0.1)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.7, 0.6, 0.7])
    trainer.fit(train, valid, 9)
    assert trainer.progress.epoch == 2 and trainer.progress.stop
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_patience_counts_evaluations_without_a_real_improvement_in_a_row(parts, monkeypatch, mode):
    """An improvement starts the count anew, an equal value or one better by less than a millionth does not."""
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


def test_without_save_best_only_every_finite_evaluation_is_saved(parts, monkeypatch):
    model, train, valid = parts(early_stop_patience=3, save_best_only=False)
    trainer, saved = Trainer(model), []
    scripted(trainer, monkeypatch, [0.7, 0.6, math.nan, 0.5])
    monkeypatch.setattr(trainer, "_write_weights", lambda: saved.append(trainer.progress.total_steps // 7))
    with pytest.raises(TrainingError):  # nothing was written here
        trainer.fit(train, valid, 9)
    assert saved == [1, 2, 4]


def test_nan_metric_is_no_improvement_and_never_replaces_the_best(parts, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    model, train, valid = parts(early_stop_patience=2, save_best_only=False)
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.7, math.nan, math.nan])
    best = {}
    write = trainer._write_weights
    monkeypatch.setattr(trainer, "_write_weights", lambda: (best.update(weights(model)), write()))
    trainer.fit(train, valid, 9)
    assert trainer.progress.best_metric == 0.7 and trainer.progress.stopping_steps == 2
    assert_equal(weights(model), best)
    assert "Monitor(max)=nan STOP!" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("mode", ["max", "min"])
def test_never_a_finite_monitor_is_an_error_and_not_an_older_files_weights(parts, monkeypatch, mode):
    model, train, valid = parts()
    Trainer(model).fit(train, valid, 1)
    old = Trainer(model).best_path
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
    assert not Trainer(model).best_path.exists()


def test_regularisation_that_overflows_is_named(parts):
    model, train, valid = parts(net_regularizer=1e38)
    with torch.no_grad():
        model.dnn.mlp[0].weight.mul_(1e10)
    with pytest.raises(TrainingError, match="the regularisation is inf"):
        Trainer(model).fit(train, valid, 1)


def test_clipping_equals_torch_and_takes_sparse_gradients():
    generator = torch.Generator().manual_seed(0)
    layer, reference = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        ours.grad = torch.randn(ours.shape, generator=generator)
        theirs.grad = ours.grad.clone()
    norm = gradient_norm([*layer.parameters()])
    clip_gradients([*layer.parameters()], 0.5, norm.item())
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5))
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)

    table = torch.nn.Embedding(6, 2, sparse=True)
    (table(torch.tensor([1, 1, 4])) * torch.tensor([3.0, 4.0])).sum().backward()
    expected = table.weight.grad.to_dense()
    norm = gradient_norm([*table.parameters()])
    clip_gradients([*table.parameters()], 1.0, norm.item())
    assert norm == pytest.approx(expected.norm().item())
    torch.testing.assert_close(table.weight.grad.to_dense(), expected / (norm + 1e-6))


def test_gradients_within_the_norm_are_not_written_to():
    layer = torch.nn.Linear(5, 3)
    layer(torch.ones(5)).sum().backward()
    parameters = [*layer.parameters()]
    written = [parameter.grad._version for parameter in parameters]
    clip_gradients(parameters, 100.0, gradient_norm(parameters).item())
    assert [parameter.grad._version for parameter in parameters] == written
    clip_gradients(parameters, 1.0, gradient_norm(parameters).item())
    assert [parameter.grad._version for parameter in parameters] != written


class Losses:
    """Keeps the losses of each step."""

    def __init__(self) -> None:
        self.every: list[dict[str, float]] = []

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.every.append(losses)


def test_the_target_loss_is_observed_apart_from_auxiliary_loss_and_regularisation():
    seen = Losses()
    parts = {"aux_loss_alpha": 0.5, "embedding_regularizer": 0.1, "net_regularizer": 0.2}
    model = DIEN(make_feature_map(features()), **{**DEFAULTS, **parts}).train()
    regularisation = model.regularization_loss().item()
    Trainer(model, observers=[seen]).train_step(make_batch([3, 5, 0, 2]))
    (losses,) = seen.every
    assert losses["target"] == pytest.approx(losses["train"] - 0.5 * losses["auxiliary"] - regularisation, abs=1e-5)
    assert min(losses["auxiliary"], regularisation) > 0.1


class Interrupt(Exception):
    pass


def interrupted(trainer: Trainer, at: int) -> None:
    """Raise in step `at`, as a crash would, after the resume state was last written."""
    train_step = trainer.train_step

    def step(batch):
        if trainer.progress.total_steps == at:
            raise Interrupt
        return train_step(batch)

    trainer.train_step = step


@pytest.mark.parametrize("every", [0.0, 1e9], ids=["written each step", "written at evaluations"])
@pytest.mark.parametrize("at", [1, 2, 4, 7, 10, 20])
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(parts, at, every):
    settings = {"eval_steps": 3, "net_dropout": 0.4, "learning_rate": 0.1}
    model, train, valid = parts(**settings)
    whole = Trainer(model)
    whole.fit(train, valid, 3)
    expected, stopping = weights(model), whole.progress.stopping_steps
    generators = (torch.rand(3), np.random.rand(3), random.random())
    whole.best_path.unlink()
    whole.resume_file.path.unlink()

    model, train, valid = parts(**settings)
    trainer = Trainer(model, checkpoint_seconds=every)
    interrupted(trainer, at)
    with pytest.raises(Interrupt):
        trainer.fit(train, valid, 3)

    model, train, valid = parts(**settings, seed=99)
    resumed = Trainer(model, checkpoint_seconds=every)
    if not resumed.resume_file.path.exists():
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
        patch.setattr(
            "dien_fuxictr.experiment.training.checkpoint.load_weights", lambda *_: (_ for _ in ()).throw(Interrupt)
        )
        with pytest.raises(Interrupt):
            trainer.fit(train, valid, 9)
    model, train, valid = parts(early_stop_patience=1)
    trainer = Trainer(model)
    trainer.resume()
    trainer.fit(train, valid, 9)
    assert trainer.progress.total_steps == 14


@pytest.mark.parametrize("of_an_earlier_version", [False, True])
def test_finished_run_leaves_a_small_mark_and_its_weights(parts, of_an_earlier_version):
    model, train, valid = parts()
    trainer = Trainer(model)
    trainer.fit(train, valid, 1)
    expected = weights(model)
    mark = torch.load(trainer.resume_file.path, weights_only=True)
    assert set(mark) == {"finished", "config", "progress"}
    if of_an_earlier_version:
        del mark["progress"]
        torch.save(mark, trainer.resume_file.path)
    rows = trainer.progress.train_rows
    model, train, valid = parts(seed=3)
    trainer = Trainer(model)
    trainer.resume()
    trainer.fit(train, valid, 1)
    assert_equal(weights(model), expected)
    assert trainer.progress.train_rows == (0 if of_an_earlier_version else rows)


def test_resume_needs_a_state_of_the_same_configuration(parts):
    model, train, valid = parts()
    with pytest.raises(UserError, match="nothing to resume"):
        Trainer(model).resume()
    Trainer(model, config={"learning_rate": 0.1, "gpu": 0, "gone": 1}).fit(train, valid, 1)
    with pytest.raises(UserError, match=r"differs in gone \(1 -> absent\), learning_rate \(0.1 -> 0.2\)$"):
        Trainer(model, config={"learning_rate": 0.2, "gpu": 1}).resume()
    Trainer(model, config={"learning_rate": 0.1, "gpu": 1, "verbose": 3, "gone": 1}).resume()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "is not a resume state"),
        ({"config": 3}, "is not a resume state"),
        ({"progress": {"steps": 3}}, "is not a resume state of this version: .*'steps'"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "does not fit the optimizer: loaded state dict has a diff"),
        ({"model": {"more": 1}}, "does not fit the model"),
    ],
    ids=str,
)
def test_a_state_that_is_none_is_one_line(parts, change, message):
    model, train, valid = parts()
    interrupting = Trainer(model)
    interrupted(interrupting, 8)
    with pytest.raises(Interrupt):
        interrupting.fit(train, valid, 2)
    path = interrupting.resume_file.path
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(UserError, match=message):
        Trainer(parts()[0]).resume()


@pytest.mark.parametrize("key", ["batch_size", "seed", "num_threads", "epochs", "metrics"])
def test_what_changes_the_result_may_not_change(parts, key):
    model, train, valid = parts()
    Trainer(model, config={key: 1}).fit(train, valid, 1)
    with pytest.raises(UserError, match=rf"differs in {key} \(1 -> 2\)$"):
        Trainer(model, config={key: 2}).resume()


def test_weights_that_are_newer_than_the_state_are_still_this_runs(parts, monkeypatch):
    """Killed between the two, and on a GPU the repeated evaluation need not be as good again."""
    model, train, valid = parts(early_stop_patience=1)
    killed = Trainer(model)
    with monkeypatch.context() as patch:
        scripted(killed, patch, [0.6, 0.7])
        write = killed._write_state
        patch.setattr(killed, "_write_state", lambda: interrupt() if killed.progress.epoch else write())
        with pytest.raises(Interrupt):
            killed.fit(train, valid, 9)
    model, train, valid = parts(early_stop_patience=1)
    resumed = Trainer(model)
    resumed.resume()
    scripted(resumed, monkeypatch, [0.5])
    resumed.fit(train, valid, 9)
    assert resumed.progress.total_steps == 14


def test_an_older_runs_state_is_gone_before_new_weights_are_there(parts, monkeypatch):
    """A resume between the two would go on with that run and end with this one's weights."""
    model, train, valid = parts()
    Trainer(model).fit(train, valid, 1)
    model, train, valid = parts()
    killed = Trainer(model)
    monkeypatch.setattr(killed, "_write_state", lambda: (_ for _ in ()).throw(Interrupt))
    with pytest.raises(Interrupt):
        killed.fit(train, valid, 1)
    assert killed.best_path.exists() and not killed.resume_file.path.exists()


def test_fresh_run_removes_the_old_resume_state_only_at_its_first_write(parts):
    model, train, valid = parts()
    first = Trainer(model)
    first.fit(train, valid, 1)
    model, train, valid = parts()
    second = Trainer(model)
    interrupted(second, 5)
    with pytest.raises(Interrupt):
        second.fit(train, valid, 1)
    assert first.resume_file.path.exists() and first.best_path.exists()
    model, train, valid = parts(fault="nan_evaluation", early_stop_patience=1)
    with pytest.raises(TrainingError):
        Trainer(model).fit(train, valid, 1)
    assert not torch.load(first.resume_file.path, weights_only=True)["finished"]


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
