"""Trainings that learn nothing are told from others, and end with exit code 1."""

import json
import math

import numpy as np
import pytest
from made_training import scripted

from dien_fuxictr.experiment.evaluation.evaluate import Evaluation
from dien_fuxictr.experiment.training.resume import Progress
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.untrained import embedding_norm, nothing_learnt
from dien_fuxictr.experiment.training.weight_store import WeightStore


def said_of(model, label, score, norm=1.0, steps=100, **config) -> str:
    progress = Progress(embedding_norm=norm, total_steps=steps)
    return nothing_learnt(Evaluation({}, label, score, None, 0.0), WeightStore(model), progress, config)


@pytest.fixture
def model(parts):
    return parts()[0]


def rows(count: int, effect: float, spread: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return labels with a base rate of 1/2, and calibrated scores.

    The logits have this spread, of which the share `effect` is true.
    """
    rng = np.random.default_rng(seed)
    logit = rng.normal(scale=spread, size=count)
    label = (rng.random(count) < 1 / (1 + np.exp(-effect * logit))).astype(float)
    return label, 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("count", [4, 100_000])
def test_constant_scores_tell_nothing_whatever_the_rows(model, count):
    label = np.arange(count) % 2.0
    assert f"all {count:,} scores of the validation rows are 0.3" in said_of(model, label, np.full(count, 0.3))
    assert "scores of the validation rows are 0.3" in said_of(model, label, np.full(count, 0.3) + 1e-8 * label)
    assert not said_of(model, label, np.full(count, 0.3) + 1e-4 * label)


def test_constant_scores_tell_nothing_in_a_regression(model):
    target = np.linspace(0, 9, 50)
    assert "all 50 scores" in said_of(model, target, np.full(50, 4.5))
    assert not said_of(model, target, target + 1)


def test_random_scores_of_many_rows_tell_nothing(model):
    label, score = rows(40_000, effect=0)
    said = said_of(model, label, score)
    half = 1.96 * math.sqrt((len(label) + 1) / (12 * label.sum() * (1 - label).sum()))
    assert f"within the interval of random scores, .5 ± {half:.4f}" in said and "that of the base rate" in said


def test_random_scores_of_few_rows_may_be_those_of_a_real_model(model):
    assert not said_of(model, *rows(200, effect=0))


def test_scores_next_to_the_base_rate_tell_nothing_in_few_rows(model):
    """Detect a spread s of scores that gains at most s² / (2 p (1 - p)) of log loss.

    That is 2e-6 for s = .001, which embeddings near 0 give.
    """
    label, score = rows(1000, effect=0, spread=0.004)
    assert score.std() < 0.0011 and "AUC on validation" in said_of(model, label, score)
    assert not said_of(model, label, score, steps=99), "a trial run"


def test_a_weak_but_real_model_has_learnt(model):
    label, score = rows(40_000, effect=1.0, spread=0.1)  # AUC .528
    assert not said_of(model, label, score)


def test_an_auc_at_chance_with_a_better_loss_has_learnt(model):
    """Accept scores with AUC .5 and a log loss of .53.

    Half of the positives are above all negatives, the other half below.
    """
    label, score = np.tile([1.0, 1.0, 0.0, 0.0], 5000), np.tile([0.99, 0.4, 0.45, 0.45], 5000)
    assert not said_of(model, label, score)
    assert "AUC on validation is 0.5000" in said_of(model, label, np.where(score > 0.9, 0.46, score))


@pytest.mark.parametrize("broken", [[math.nan, 0.5], []], ids=["not finite", "no rows"])
def test_of_no_scores_nothing_is_said(model, broken):
    assert not said_of(model, np.array([1.0, 0.0][: len(broken)]), np.array(broken))


@pytest.mark.parametrize(
    ("before", "config", "cause"),
    [
        (1.0, {"learning_rate": 1e-9}, "learning_rate = 1e-09 is too low"),
        (3.0, {"learning_rate": 1e-3, "embedding_regularizer": 0.5}, "embedding_regularizer = 0.5"),
        (1e-4, {"learning_rate": 3, "embedding_regularizer": 0.5}, "learning_rate = 3 is too high"),
        (3.0, {"learning_rate": 3}, "learning_rate = 3 is too high"),
    ],
)
def test_the_likely_cause_follows_from_the_norm(model, before, config, cause):
    now = embedding_norm(WeightStore(model))
    said = said_of(model, np.array([0.0, 1.0]), np.array([0.5, 0.5]), before * now, **config)
    assert f"was {before * now:.3g} at the start and is {now:.3g} now; likely cause: {cause}" in said


@pytest.fixture
def constant(workspace):
    """Make the model's scores constant, like a strong regulariser."""
    file = workspace.folder / "model_zoo" / "Tiny" / "src" / "Tiny.py"
    text = file.read_text()
    assert text.count("self.output_activation(logits)") == 1
    file.write_text(text.replace("self.output_activation(logits)", "self.output_activation(0 * logits)"))
    return workspace


def test_a_run_that_learns_nothing_ends_with_1(constant, capsys):
    assert constant.run("--report", "report") == 1
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    assert lines[0].startswith("error: the model has learnt nothing: all 80 scores of the validation rows are 0.5; ")
    assert lines[0].endswith("; --allow-untrained ends such a run with exit code 0")
    assert "all 80 scores" in json.loads((constant.folder / "report" / "result.json").read_text())["untrained"]
    assert constant.file(".model").exists()


def test_a_run_that_may_learn_nothing_ends_with_0(constant, capsys):
    assert constant.run("--report", "report", "--allow-untrained") == 0
    assert "warning: The model has learnt nothing so far" in capsys.readouterr().err
    assert "untrained" in json.loads((constant.folder / "report" / "result.json").read_text())


def test_a_run_that_learns_is_not_marked(workspace, capsys):
    assert workspace.run("--report", "report") == 0
    assert "learnt nothing" not in capsys.readouterr().err
    assert "untrained" not in json.loads((workspace.folder / "report" / "result.json").read_text())


def test_the_warning_comes_once_at_the_second_evaluation(parts, monkeypatch, caplog):
    model, train, valid = parts()
    trainer = Trainer(model)
    scripted(trainer, monkeypatch, [0.5, 0.5, 0.5, 0.5])
    asked = []

    def dark(*_):
        asked.append(caplog.text.count("The model has learnt nothing so far: all is dark"))
        return "all is dark"

    monkeypatch.setattr("dien_fuxictr.experiment.training.untrained.nothing_learnt", dark)
    trainer.fit(train, valid, 4)
    assert asked == [0, 0, 1, 1]


def test_a_model_that_has_learnt_once_is_asked_no_more(parts, monkeypatch, caplog):
    model, train, valid = parts()
    trainer, asked = Trainer(model), []
    scripted(trainer, monkeypatch, [0.5, 0.7, 0.5, 0.5])
    said = iter(["dark", ""])
    monkeypatch.setattr(
        "dien_fuxictr.experiment.training.untrained.nothing_learnt", lambda *_: asked.append(1) or next(said)
    )
    trainer.fit(train, valid, 4)
    assert len(asked) == 2 and "learnt nothing" not in caplog.text
