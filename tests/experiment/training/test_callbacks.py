"""Keys against overfitting, compared with transcriptions and resumed exactly.

Tables are dense and sparse.
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import DEFAULTS, features, make_batch, make_feature_map
from made_training import Interrupt, interrupted, training_options
from torch import Tensor

from dien_fuxictr.experiment.training.observer import Observer
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN

BATCHES = [make_batch([3, 6, 0, 2, 1, 4, 5, 3], seed=seed) for seed in range(4)]
VALID = [make_batch([2, 5, 1, 6, 3, 4], seed=9)]
STEPS = len(BATCHES)
EPOCHS = 3


def make_dien(**keywords: Any) -> DIEN:
    torch.manual_seed(0)
    model = DIEN(make_feature_map(features()), **{**DEFAULTS, "net_dropout": 0.2, "aux_loss_alpha": 0.5, **keywords})
    model.compile("adam", "binary_crossentropy", 0.05)
    return model


def trainer_of(folder: Path, settings: dict[str, Any], **options: Any) -> Any:
    """Return the `Trainer` of a DIEN with these keys of a configuration."""
    settings = {"early_stop_patience": 9, "eval_steps": 3, "save_best_only": False, **settings}  # the last are kept
    model = make_dien(model_root=str(folder), **settings)
    return Trainer(model, callback=prepare_training(WeightStore(model), training_options(settings)), **options)


def content(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


SETTINGS: list[dict[str, Any]] = [
    {"embedding_regularizer": 0.5, "embedding_regularization": "mini_batch_aware"},
    {"embedding_regularizer": 0.5, "embedding_regularization": "mini_batch_aware", "embedding_updates": "sparse"},
    {"weight_averaging": "ema", "weight_averaging_decay": 0.8},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Resume from the saved state, and compare with a run without the key."""
    whole = trainer_of(tmp_path, settings)
    torch.manual_seed(1)
    whole.fit(BATCHES, VALID, EPOCHS)
    expected = content(whole.state.best_path)
    for at in (1, 3, 4, 8, 10):  # before, at and after evaluations and ends of epochs
        trainer = trainer_of(tmp_path, settings, checkpoint_seconds=0.0)
        torch.manual_seed(1)
        interrupted(trainer, at)
        with pytest.raises(Interrupt):
            trainer.fit(BATCHES, VALID, EPOCHS)
        resumed = trainer_of(tmp_path, settings, checkpoint_seconds=0.0)
        resumed.resume()
        assert resumed.progress.total_steps == at
        resumed.fit(BATCHES, VALID, EPOCHS)
        assert equal(content(resumed.state.best_path), expected), at
        assert resumed.progress.best_metric == whole.progress.best_metric
    plain = trainer_of(tmp_path, {"embedding_updates": settings.get("embedding_updates", "dense")})
    torch.manual_seed(1)
    plain.fit(BATCHES, VALID, EPOCHS)
    assert not equal(content(plain.state.best_path), expected)


def test_average_of_weights_and_statistics_by_steps(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, {"weight_averaging": "ema", "weight_averaging_decay": 0.3, "eval_steps": STEPS})
    model, (average,) = trainer.model, trainer.callback.parts
    expected: dict[str, np.ndarray] = {}
    for step, batch in enumerate(itertools.islice(itertools.cycle(BATCHES), 2 * STEPS), start=1):
        if step == 1:
            expected = {name: value.double().numpy() for name, value in model.state_dict().items()}
            expected = {name: value.copy() for name, value in expected.items()}
        model.train()
        trainer.train_step(batch)
        decay = min(0.3, step / (9 + step))
        for name, value in model.state_dict().items():
            now = value.double().numpy()
            counts = name.endswith("num_batches_tracked")
            expected[name] = now.copy() if counts else decay * expected[name] + (1 - decay) * now
    raw = {name: value.clone() for name, value in model.state_dict().items()}
    with average.evaluated():
        for name, value in model.state_dict().items():
            np.testing.assert_allclose(value.double().numpy(), expected[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert equal(model.state_dict(), raw) and any("running_mean" in name for name in raw)


def test_average_is_evaluated_but_not_trained(tmp_path: Path) -> None:
    one, plain = (
        trainer_of(tmp_path / name, {"weight_averaging": name, "eval_steps": STEPS, "save_best_only": False})
        for name in ("ema", "none")
    )
    seen: list[float] = []

    class Watch(Observer):
        def step(self, *_: Any) -> None:
            pass

        def evaluation(self, step: int, epoch: int, metrics: dict[str, float], model: Any, loader: Any) -> None:
            seen.append(model.dnn.mlp[0].weight.sum().item())

    one.observers = [Watch()]
    trained = []
    for trainer in (one, plain):
        torch.manual_seed(1)
        step = trainer.callback.after_step
        trainer.callback.after_step = lambda trainer=trainer, step=step: (
            step(),
            trained.append(trainer.model.dnn.mlp[0].weight.detach().clone()),
        )
        trainer.fit(BATCHES, VALID, 2)
    assert all(map(torch.equal, trained[: 2 * STEPS], trained[2 * STEPS :]))
    kept = content(one.state.best_path)["dnn.mlp.0.weight"]
    assert kept.sum().item() == seen[-1] and not torch.equal(kept, trained[-1])
    assert torch.equal(content(plain.state.best_path)["dnn.mlp.0.weight"], trained[-1])


def test_the_defaults_are_no_callback_and_change_nothing() -> None:
    model = make_dien(embedding_regularizer=0.1)
    before = model.regularization_loss
    assert not prepare_training(WeightStore(model), training_options({"embedding_regularization": "table"})).parts
    assert model.regularization_loss == before and len(model.optimizer.param_groups) == 1
