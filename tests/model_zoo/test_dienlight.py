"""Rocket Launching: what trains the light network, and never the booster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made import DEFAULTS, features, make_batch, make_feature_map, train_loss
from made_csv import DienOnCsv

from dien_fuxictr.common.errors import TrainingError
from dien_fuxictr.experiment.cli import main
from dien_fuxictr.experiment.training.observer import Observer
from dien_fuxictr.experiment.training.optimizers import update_sparsely
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from model_zoo.DIEN.src import DIEN
from model_zoo.DIENLight.src import DIENLight

LARGE: dict[str, Any] = {"gru_hidden_size": 9, "dnn_hidden_units": [12, 6]}
LIGHT: dict[str, Any] = {"gru_hidden_size": 3, "dnn_hidden_units": [5], "attention_hidden_units": [4]}
NOISY = {"net_dropout": 0.4, "attention_dropout": 0.3, "attention_type": "din_attention", "aux_loss_alpha": 0.7}
REGULARIZED = {"embedding_regularizer": 0.01, "net_regularizer": 0.02}
BATCHES = [make_batch([6, 0, 1, 3, 2, 5, 4, 6], seed=seed) for seed in range(5)]
MAX_NORM = 0.1
BCE = torch.nn.functional.binary_cross_entropy
BOOSTER = {**LARGE, "attention_hidden_units": DEFAULTS["attention_hidden_units"]}
"""Settings that change a DIEN of `LIGHT` into one of `LARGE`."""


def make_large(**keywords: Any) -> DIEN:
    torch.manual_seed(0)
    return DIEN(make_feature_map(features()), **{**DEFAULTS, **LARGE, **keywords})


def make_light(**keywords: Any) -> DIENLight:
    torch.manual_seed(0)
    return DIENLight(make_feature_map(features()), **{**DEFAULTS, **LIGHT, "booster": BOOSTER, **keywords})


def trained(model: DIEN, sparse: bool = False) -> dict[str, torch.Tensor]:
    """Return the weights of a DIEN or booster after a step on each batch."""
    if sparse:
        update_sparsely(WeightStore(model))
    norms = Norms()
    trainer = Trainer(model.train(), max_gradient_norm=MAX_NORM, observers=[norms])
    for batch in BATCHES:
        trainer.train_step(batch)
    assert min(norms.every) > MAX_NORM  # all steps are clipped
    return dict((model.booster if isinstance(model, DIENLight) else model).state_dict())


class Norms(Observer):
    """Keeps the gradient's norm at each step."""

    def __init__(self) -> None:
        self.every: list[float] = []

    def step(self, step: int, losses: dict[str, float], learning_rate: float) -> None:
        self.every.append(losses["gradient_norm"])


def equal(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("weight", [0.0, 1.0, 100.0])
@pytest.mark.parametrize("keywords", [{}, NOISY, REGULARIZED, {**NOISY, **REGULARIZED}], ids=str)
def test_the_booster_is_the_dien_that_it_would_be_alone(keywords: dict, weight: float, sparse: bool) -> None:
    alone = trained(make_large(**keywords), sparse)
    assert not equal(alone, dict(make_large(**keywords).state_dict()))
    assert equal(alone, trained(make_light(**keywords, hint_loss_weight=weight), sparse))


def test_common_clip_or_shared_gradient_changes_booster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = trained(make_large())
    assert not equal(alone, trained(make_light(shared_gradient="both")))
    monkeypatch.setattr(DIENLight, "clip_groups", lambda self: [list(self.parameters())])
    assert not equal(alone, trained(make_light()))


def test_a_run_trains_the_booster_that_a_run_of_it_alone_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw weights, order, dropout and negatives as for the booster alone."""
    monkeypatch.chdir(tmp_path)
    project, weights = DienOnCsv(tmp_path), {}
    booster = {"gru_hidden_size": 7, "dnn_hidden_units": [16, 8]}
    for name, model in {
        "alone": {**NOISY, **booster, "model_id": "alone"},
        "beside": {**NOISY, "model": "DIENLight", "booster": booster, "gru_hidden_size": 3},
    }.items():
        project.configure({"net_dropout": 0.2, "epochs": 1, **model})
        assert main(["--config", "config", "--expid", "X", "--strict"]) == 0
        weights[name] = torch.load("checkpoints/d/X.model", weights_only=True)
    beside = {name.removeprefix("booster."): x for name, x in weights["beside"].items() if name.startswith("booster.")}
    assert equal(weights["alone"], beside)


def test_loss_is_that_of_both_nets_and_the_hint() -> None:
    model, batch = make_light(hint_loss_weight=0.3, **NOISY, **REGULARIZED).train(), BATCHES[0]
    result, y = model(batch), model.get_labels(batch)
    cross_entropy = torch.nn.functional.binary_cross_entropy
    expected = sum(cross_entropy(result[name], y) for name in ("y_pred", "booster_y_pred"))
    expected = expected + 0.7 * (result["aux_loss"] + result["booster_aux_loss"])
    expected = expected + 0.3 * (result["logits"] - result["booster_logits"]).square().mean()
    torch.testing.assert_close(model.add_loss(result, y), expected)
    torch.testing.assert_close(model.compute_loss(result, y), expected + model.regularization_loss())


@pytest.mark.parametrize("shared_gradient", ["booster", "both"])
def test_the_hint_moves_the_light_net_alone(shared_gradient: str) -> None:
    gradients = []
    for weight in (0.0, 5.0):
        model = make_light(hint_loss_weight=weight, shared_gradient=shared_gradient)
        gradients.append({name: x.clone() for name, x in train_loss(model, BATCHES[0])[1].items()})
    without, hinted = gradients
    moved = {name for name in without if not torch.equal(without[name], hinted[name])}
    assert not [name for name in moved if name.startswith("booster.")]
    assert any(name.startswith("embedding_layer.") for name in moved) == (shared_gradient == "both")
    of_light = {name for name in without if not name.startswith(("booster.", "embedding_layer."))}
    assert {"sequences.0.extractor.weight_ih", "dnn.mlp.0.weight"} <= moved & of_light


@pytest.mark.parametrize("weight", [0.5, 10.0])
def test_the_hint_pulls_each_logit_towards_the_boosters(weight: float) -> None:
    """Check the gradient of the hint: 2 λ (z_light - z_booster) / B, and 0.

    The hint is λ mean (z_light - z_booster)²; the booster has no gradient.
    """
    gradients = []
    for hint_loss_weight in (weight, 0.0):
        model = make_light(hint_loss_weight=hint_loss_weight).train()
        outputs = model(BATCHES[0])
        logits = outputs["logits"], outputs["booster_logits"]
        loss = model.add_loss(outputs, model.get_labels(BATCHES[0]))
        gradients.append(torch.autograd.grad(loss, logits))
    light, booster = (of_hint - without for of_hint, without in zip(*gradients, strict=True))
    expected = 2 * weight * (logits[0] - logits[1]).detach() / len(light)
    torch.testing.assert_close(light, expected, rtol=1e-4, atol=1e-6)
    assert expected.abs().min() > 1e-4 and not booster.any()


def test_hint_brings_light_network_closer_to_booster() -> None:
    distances = []
    for weight in (0.0, 10.0):
        model = make_light(hint_loss_weight=weight, learning_rate=1e-2)
        trainer = Trainer(model.train())
        for step in range(60):
            trainer.train_step(BATCHES[step % 5])
        model.eval()
        distances.append((model(BATCHES[0])["logits"] - model.booster.eval()(BATCHES[0])["logits"]).square().mean())
    assert distances[1] < distances[0]


@pytest.mark.parametrize("keywords", [{}, NOISY, {"shared_gradient": "both"}], ids=str)
def test_dien_loads_the_light_network_with_equal_scores(keywords: dict) -> None:
    model = make_light(**keywords)
    trained(model)
    of_dien = {name: value for name, value in keywords.items() if name != "shared_gradient"}
    plain = DIEN(make_feature_map(features()), **{**DEFAULTS, **LIGHT, **of_dien})
    weights = model.light_state_dict()
    assert list(weights) == list(plain.state_dict())
    before = plain.eval()(BATCHES[0])["logits"]
    plain.load_state_dict(weights)
    scores = model.eval()(BATCHES[0])["logits"]
    assert torch.equal(plain(BATCHES[0])["logits"], scores) and not torch.allclose(scores, before)


def test_evaluation_does_not_run_the_booster(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_light().eval()
    monkeypatch.setattr(model.booster, "forward", lambda *_: pytest.fail("the booster has run"))
    assert model(BATCHES[0]).keys() == {"y_pred", "logits"}
    with pytest.raises(pytest.fail.Exception):
        model.train()(BATCHES[0])


def test_the_light_net_draws_of_its_own() -> None:
    """Draw dropout and negatives of the light network without the generator."""
    model = make_light(**NOISY).train()
    assert len({model(BATCHES[0])["aux_loss"].item() for _ in range(4)}) > 1
    states = []
    for net in (model, model.booster):
        torch.manual_seed(3)
        net(BATCHES[0])
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_frozen_booster_stays_as_it_is_and_teaches(tmp_path: Path) -> None:
    file = str(tmp_path / "large.model")
    alone = make_large(**NOISY)
    expected = {name: value.clone() for name, value in trained(alone).items()}
    torch.save(expected, file)
    model = make_light(**NOISY, **REGULARIZED, booster_checkpoint=file)
    result, y = model.train()(BATCHES[0]), model.get_labels(BATCHES[0])
    assert torch.equal(result["booster_logits"], alone.eval()(BATCHES[0])["logits"])
    loss = torch.nn.functional.binary_cross_entropy(result["y_pred"], y) + 0.7 * result["aux_loss"]
    hint = (result["logits"] - result["booster_logits"]).square().mean()
    torch.testing.assert_close(model.add_loss(result, y), loss + hint)
    before = {name: value.clone() for name, value in model.light_state_dict().items()}
    assert equal(trained(model), expected)
    after = model.light_state_dict()
    moved = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"sequences", "dnn"}


def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Crash(Exception):
        pass

    def run(crash_at: int | None = None, resume: bool = False) -> dict[str, torch.Tensor]:
        model = make_light(**NOISY, model_root=str(tmp_path))
        trainer = Trainer(model, checkpoint_seconds=0)
        train_step: Callable[[Any], float] = trainer.train_step

        def step(batch: Any) -> float:
            if trainer.progress.total_steps == crash_at:
                raise Crash
            return train_step(batch)

        monkeypatch.setattr(trainer, "train_step", step)
        if resume:
            trainer.resume()
            assert trainer.progress.total_steps == 3
        trainer.fit(BATCHES, BATCHES[:2], 2)
        return dict(model.state_dict())

    whole = run()
    with pytest.raises(Crash):
        run(crash_at=3)
    assert equal(run(resume=True), whole)


def test_a_booster_that_is_not_finite_is_named() -> None:
    model = make_light()
    with torch.no_grad():
        model.booster.dnn.mlp[0].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is not finite at .*: booster_y_pred is not finite"):
        Trainer(model.train()).train_step(BATCHES[0])


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"booster": {"gru_hiden_size": 5}}, r"^booster: unknown key 'gru_hiden_size'; nearest: gru_hidden_size"),
        ({"booster": {"xyzzy": 5}}, r"^booster: unknown key 'xyzzy'; known: attention_activation, "),
        ({"booster": {"embedding_dim": 5}}, r"^booster: embedding_dim must be set outside of booster; both networks"),
        ({"booster": {"gru_type": "LSTM"}}, r"^gru_type = 'LSTM' must be GRU, AIGRU"),
        ({"hint_loss_weight": -1}, r"^hint_loss_weight = -1 must be a finite number, 0 or more"),
        ({"shared_gradient": "light"}, r"^shared_gradient = 'light' must be booster or both"),
        ({"gru_hidden_size": 0}, r"^gru_hidden_size = 0 must be a whole number"),
        ({"booster_checkpoint": "none.model"}, r"^booster_checkpoint='none.model' does not load: .*No such file"),
        (
            {"booster_checkpoint": "none.model", "shared_gradient": "both"},
            r"^shared_gradient='both' would move the embeddings .*'none.model'\) freezes; allowed: booster",
        ),
    ],
)
def test_refuses_in_one_clear_line(keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make_light(**keywords)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, 'does not load: Missing key.* in state_dict: "embedding_layer'),
        (
            make_large(gru_hidden_size=4).state_dict(),
            "does not load: size mismatch for sequences.0.extractor.weight_ih",
        ),
        ([1, 2], "does not load: Expected state_dict to be dict-like"),
        (b"no checkpoint", "is refused: it is damaged, or it holds more than tensors and numbers"),
    ],
    ids=["empty", "another size", "a list", "bytes"],
)
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path: Path, content: Any, reason: str) -> None:
    file = tmp_path / "large.model"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(ValueError, match=f"large.model' {reason}") as error:
        make_light(booster_checkpoint=str(file))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
