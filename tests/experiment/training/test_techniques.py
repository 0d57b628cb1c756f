"""Keys against overfitting: each against a transcription, on dense and sparse tables, and resumed bit for bit."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import DEFAULTS, SEQUENCES, features, make_batch, make_feature_map
from made_models import tables_of
from made_training import Interrupt, interrupted
from torch import Tensor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.techniques import check_techniques, prepare_training
from dien_fuxictr.experiment.training.behaviour_dropout import BehaviourDropout
from dien_fuxictr.experiment.training.embedding_reinit import EmbeddingReinit
from dien_fuxictr.experiment.training.optimizers import set_embedding_rate
from dien_fuxictr.experiment.training.sparse_tables import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer
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
    """The `Trainer` of a DIEN with these keys of a configuration."""
    settings = {"early_stop_patience": 9, "eval_steps": 3, "save_best_only": False, **settings}  # the last are kept
    model = make_dien(model_root=str(folder), **settings)
    return Trainer(model, technique=prepare_training(model, {"seed": 1, **settings}), **options)


def content(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


SETTINGS: list[dict[str, Any]] = [
    {"embedding_learning_rate": 0.5},
    {"embedding_learning_rate": 0.5, "embedding_updates": "sparse"},
    {"embedding_regularizer": 0.5, "embedding_regularization": "mini_batch_aware"},
    {"embedding_regularizer": 0.5, "embedding_regularization": "mini_batch_aware", "embedding_updates": "sparse"},
    {"embedding_reinit": "epoch"},
    {"embedding_reinit": "epoch", "embedding_updates": "sparse"},
    {"weight_averaging": "ema", "weight_averaging_decay": 0.8},
    {"behaviour_dropout": 0.4},
    {"aux_loss_alpha": [2, 0.5, 0]},
    {"aux_pretrain_epochs": 1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_resumed_run_equals_the_uninterrupted_one_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Interrupted, with the state before it saved; and it is another run than without the key."""
    whole = trainer_of(tmp_path, settings)
    torch.manual_seed(1)
    whole.fit(BATCHES, VALID, EPOCHS)
    expected = content(whole.best_path)
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
        assert equal(content(resumed.best_path), expected), at
        assert resumed.progress.best_metric == whole.progress.best_metric
    plain = trainer_of(tmp_path, {"embedding_updates": settings.get("embedding_updates", "dense")})
    torch.manual_seed(1)
    plain.fit(BATCHES, VALID, EPOCHS)
    assert not equal(content(plain.best_path), expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_embeddings_have_a_learning_rate_of_their_own(sparse: bool) -> None:
    """Adam's first step moves a weight by the rate, whatever its gradient, unless that is next to nothing."""
    model = make_dien()
    if sparse:
        update_sparsely(model)
    set_embedding_rate(model, 0.003)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    Trainer(model).train_step(BATCHES[0])
    moved = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    tables = {name for name in moved if name.startswith("embedding_layer.") and "price" not in name}
    for rate, names in ((0.003, tables), (0.05, moved.keys() - tables)):
        largest = max(moved[name] for name in names)
        assert largest == pytest.approx(rate, rel=0.02)
    model.lr_decay()
    assert {round(group["lr"], 6) for group in model.optimizer.param_groups} == {0.005, 0.0003}
    assert model.optimizer.param_groups[0]["lr"] == pytest.approx(0.005)  # what is logged and observed


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "SGD", "Adagrad", "RMSprop"])
def test_fresh_embeddings_are_initial_ones_that_the_optimizer_does_not_know(sparse: bool, optimizer: str) -> None:
    model = make_dien()
    model.compile(optimizer, "binary_crossentropy", 0.05)
    if sparse:
        update_sparsely(model)
    technique = EmbeddingReinit(model, seed=3)
    trainer = Trainer(model)
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    for batch in BATCHES:
        trainer.train_step(batch)
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.get_rng_state()
    technique.start_epoch(0)
    assert equal(dict(model.named_parameters()), trained)
    technique.start_epoch(1)
    assert torch.equal(torch.get_rng_state(), generator)
    fresh = {name: p.detach().clone() for name, p in model.named_parameters()}
    tables = {name for name in state if name.startswith("embedding_layer.") and "price" not in name}
    for name, before in trained.items():
        if name in tables:
            assert not fresh[name][0].any() and 0.5e-4 < fresh[name][1:].std() < 2e-4
            assert not torch.equal(fresh[name], state[name])
        else:
            assert torch.equal(fresh[name], before)
    # The next step moves the tables as it moves those of a new optimizer.
    other = make_dien()
    other.compile(optimizer, "binary_crossentropy", 0.05)
    if sparse:
        update_sparsely(other)
    other.load_state_dict(model.state_dict())
    for each in (trainer, Trainer(other)):
        torch.manual_seed(5)
        each.train_step(BATCHES[0])
    news = dict(other.named_parameters())
    for name, p in model.named_parameters():
        if name in tables:
            assert torch.equal(p, news[name]), name
    technique.start_epoch(2)
    assert not torch.equal(tables_of(model)["item_id"].weight, fresh["embedding_layer.embedding_layers.item_id.weight"])


def test_the_average_is_that_of_weights_and_running_statistics_step_by_step(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, {"weight_averaging": "ema", "weight_averaging_decay": 0.3, "eval_steps": STEPS})
    model, (average,) = trainer.model, trainer.technique.parts
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


def test_the_average_is_evaluated_and_kept_and_the_training_does_not_see_it(tmp_path: Path) -> None:
    one, plain = (
        trainer_of(tmp_path / name, {"weight_averaging": name, "eval_steps": STEPS, "save_best_only": False})
        for name in ("ema", "none")
    )
    seen: list[float] = []

    class Watch:
        def step(self, *_: Any) -> None:
            pass

        def evaluation(self, step: int, epoch: int, metrics: dict[str, float], model: Any, loader: Any) -> None:
            seen.append(model.dnn.mlp[0].weight.sum().item())

    one.observers = [Watch()]
    trained = []
    for trainer in (one, plain):
        torch.manual_seed(1)
        step = trainer.technique.after_step
        trainer.technique.after_step = lambda trainer=trainer, step=step: (
            step(),
            trained.append(trainer.model.dnn.mlp[0].weight.detach().clone()),
        )
        trainer.fit(BATCHES, VALID, 2)
    assert all(map(torch.equal, trained[: 2 * STEPS], trained[2 * STEPS :]))
    kept = content(one.best_path)["dnn.mlp.0.weight"]
    assert kept.sum().item() == seen[-1] and not torch.equal(kept, trained[-1])
    assert torch.equal(content(plain.best_path)["dnn.mlp.0.weight"], trained[-1])


def without(row: list[int], gone: list[bool]) -> list[int]:
    kept = [i for i, lost in zip(row, gone, strict=True) if not lost or i == 0]
    return kept + [0] * (len(row) - len(kept))


@pytest.mark.parametrize("padding", ["post", "pre"])
def test_dropped_behaviours_close_up_with_all_their_fields(padding: str) -> None:
    spec = features()
    for name in SEQUENCES:
        spec[name]["padding"] = padding
    technique, rate = BehaviourDropout(make_feature_map(spec), 0.3), 0.3
    batch = make_batch([6] * 400 + [1] * 50 + [0] * 50)
    if padding == "pre":
        batch |= {name: batch[name].flip(1) for name in SEQUENCES}
    given = {name: x.clone() for name, x in batch.items()}
    torch.manual_seed(5)
    found = technique.before_step(batch)
    torch.manual_seed(5)
    dropped = torch.rand(500, 6) < rate
    assert equal(batch, given) and list(found) == list(batch)
    for row in range(500):
        real = batch["item_history"][row] > 0
        gone = dropped[row].tolist() if (real & ~dropped[row]).any() else [False] * 6
        for name in SEQUENCES:
            ids = batch[name][row].tolist()
            expected = without(ids, gone) if padding == "post" else without(ids[::-1], gone[::-1])[::-1]
            assert found[name][row].tolist() == expected, (row, name)
    for name in set(batch) - set(SEQUENCES):
        assert torch.equal(found[name], batch[name])
    lengths = (found["item_history"][:400] > 0).sum(dim=1)
    assert lengths.min() >= 1 and lengths.double().mean().item() == pytest.approx(6 * 0.7, abs=0.25)
    assert torch.equal((found["item_history"][400:] > 0).sum(dim=1), torch.tensor([1] * 50 + [0] * 50))


def test_histories_of_unlike_widths_and_batches_without_any() -> None:
    technique = BehaviourDropout(make_feature_map(features()), 0.5)
    batch = make_batch([4, 3]) | {"query_history": torch.tensor([[5], [0]])}
    for seed in range(20):
        torch.manual_seed(seed)
        found = technique.before_step(batch)
        assert found["query_history"].tolist() == [[5], [0]]
        assert (found["item_history"] > 0).any(dim=1).all()
    target = {name: x for name, x in batch.items() if name not in SEQUENCES}
    assert technique.before_step(target) is target


def test_the_defaults_are_no_technique_and_change_nothing() -> None:
    model = make_dien(embedding_regularizer=0.1)
    before = model.regularization_loss
    assert not prepare_training(model, {"seed": 1, "behaviour_dropout": 0, "embedding_regularization": "table"}).parts
    assert model.regularization_loss == before and len(model.optimizer.param_groups) == 1


def test_evaluations_while_a_model_pretrains_do_not_count(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, {"aux_pretrain_epochs": 3, "eval_steps": STEPS, "early_stop_patience": 2})
    seen: list[tuple[int, bool]] = []

    class Watch:
        def step(self, *_: Any) -> None:
            pass

        def evaluation(self, step: int, *_: Any) -> None:
            seen.append((trainer.progress.stopping_steps, trainer.progress.saved_best))

    trainer.observers = [Watch()]
    trainer.fit(BATCHES, VALID, 4)
    assert seen == [(0, False)] * 3 + [(0, True)]
    assert trainer.model.optimizer.param_groups[0]["lr"] == 0.05


def test_an_average_of_embeddings_of_unlike_epochs_is_refused() -> None:
    with pytest.raises(UserError, match="weight_averaging: ema would average unlike embeddings"):
        check_techniques({"weight_averaging": "ema", "embedding_reinit": "epoch"})
