"""Trainings that are interrupted, or whose evaluations return given values."""

from typing import Any

import numpy as np
import torch

from dien_fuxictr.experiment.configuration.training_options import TrainingOptions
from dien_fuxictr.experiment.evaluation.evaluate import Evaluation
from dien_fuxictr.experiment.training.trainer import Trainer


def training_options(settings: dict[str, Any]) -> TrainingOptions:
    """Return training options with these settings and the required ones."""
    needed = {"model": "DIEN", "loss": "binary_crossentropy", "optimizer": "adam", "metrics": ["AUC"]}
    return TrainingOptions.of({**needed, **settings})


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


class Interrupt(Exception):
    pass


def interrupt() -> None:
    raise Interrupt


def interrupted(trainer: Trainer, at: int) -> None:
    """Raise in step `at`, as a crash would, after the resume state was last written."""
    train_step = trainer.train_step

    def step(batch):
        if trainer.progress.total_steps == at:
            raise Interrupt
        return train_step(batch)

    trainer.train_step = step


def scripted(trainer: Trainer, monkeypatch, values: list[float]) -> None:
    """Let the evaluations give these values of the monitor."""
    remaining = iter(values)
    nothing = np.zeros(0)
    monkeypatch.setattr(
        "dien_fuxictr.experiment.training.trainer.evaluate",
        lambda *_: Evaluation({"AUC": next(remaining)}, nothing, nothing, None, 0.0),
    )
