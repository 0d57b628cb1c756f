"""Files written when `sequences.0.extractor` was called `extractors.0`.

`old_names/DIEN.model` was written by that code: the model of `old_model`, 20 steps of Adam at .05 on `make_batch`. The
predictions below are its own.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made import TWO, make_batch, train_loss
from torch import Tensor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.training import checkpoint
from dien_fuxictr.experiment.training.trainer import Trainer
from model_zoo.DIEN.src import DIEN
from model_zoo.DIEN.src.checkpoint_names import PARTS

FILE = Path(__file__).parent / "old_names" / "DIEN.model"
PREDICTIONS = [0.4749509394168854, 0.5674799084663391, 0.5574504733085632, 0.4954225718975067, 0.5312157869338989]


@pytest.fixture
def old_model(make_dien: Callable[..., DIEN], tmp_path: Path) -> Callable[..., DIEN]:
    def make(fields: dict = TWO) -> DIEN:
        return make_dien(aux_loss_alpha=0.5, attention_type="din_attention", model_root=str(tmp_path), **fields)

    return make


def by_a_wrapper(model: DIEN) -> None:
    weights = checkpoint.load(FILE)
    torch.nn.Sequential(torch.nn.Linear(1, 1), model).load_state_dict(
        {"0.weight": torch.ones(1, 1), "0.bias": torch.ones(1), **{f"1.{name}": x for name, x in weights.items()}}
    )


@pytest.mark.parametrize(
    "load",
    [
        lambda model: model.load_state_dict(checkpoint.load(FILE)),
        lambda model: model.load_weights(FILE),
        lambda model: checkpoint.load_weights(model, FILE),
        by_a_wrapper,
    ],
    ids=["torch", "the zoo", "run_expid", "inside another module"],
)
def test_predictions_of_an_old_checkpoint_come_out_again(
    old_model: Callable[..., DIEN], load: Callable[[DIEN], object]
) -> None:
    model = old_model()
    load(model)
    predictions = model.eval()(make_batch([6, 0, 1, 3, 2]))["y_pred"]
    torch.testing.assert_close(predictions.flatten(), torch.tensor(PREDICTIONS), rtol=0, atol=1e-6)


def test_what_does_not_fit_is_said_by_todays_names(old_model: Callable[..., DIEN], tmp_path: Path) -> None:
    weights = checkpoint.load(FILE)
    weights["extractors.2.bias"] = weights.pop("evolutions.1.bias")
    with pytest.raises(
        UserError, match=r"no sequences.1.evolution.bias; sequences.2.extractor.bias is not the model's$"
    ):
        checkpoint.fit_weights(old_model(), weights, tmp_path)
    with pytest.raises(RuntimeError, match=r'Missing key.*"sequences.1.evolution.bias"'):
        old_model().load_state_dict(weights)


def test_with_one_sequence_the_order_is_what_it_was(old_model: Callable[..., DIEN]) -> None:
    current = checkpoint.with_current_names(old_model(), checkpoint.load(FILE))
    assert list(old_model({}).state_dict()) == [name for name in current if not name.startswith("sequences.1.")]


def with_old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {current: name for name, current in PARTS.items()}
    return {
        re.sub(r"sequences\.(\d+)\.(\w+)", lambda place: f"{old[place[2]]}.{place[1]}", name): x
        for name, x in weights.items()
    }


def interrupted(model: DIEN) -> Trainer:
    """Its resume state has the old names."""
    trainer = Trainer(model)
    for _ in range(2):
        train_loss(model, make_batch([3, 2]))
        model.optimizer.step()
    rng = checkpoint.rng_state()
    trainer.resume_file.save(model, trainer.progress, trainer.technique, rng, rng)
    state = checkpoint.load(trainer.resume_file.path)
    state["model"] = with_old_names(state["model"])
    assert "extractors.0.bias" in state["model"]
    checkpoint.save(state, trainer.resume_file.path)
    return trainer


def test_an_old_run_with_one_sequence_goes_on(old_model: Callable[..., DIEN]) -> None:
    models = [old_model({}), old_model({})]
    interrupted(models[0])
    Trainer(models[1]).resume()
    for model in models:
        train_loss(model, make_batch([4, 1]))
        model.optimizer.step()
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)


def test_an_old_run_with_two_sequences_is_refused(old_model: Callable[..., DIEN]) -> None:
    file = interrupted(old_model()).resume_file.path
    state = checkpoint.load(file)
    state["model"] = checkpoint.load(FILE)  # in the old order
    checkpoint.save(state, file)
    with pytest.raises(UserError, match=r"cannot resume .*: an earlier version wrote it.* train anew") as error:
        Trainer(old_model()).resume()
    assert "\n" not in str(error.value)
