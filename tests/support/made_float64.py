"""A DIEN with all batch-wide operations, in float64, and its batches.

Equal trainings stay equal in float64: two trainings with other orders of sums differ by rounding, by at most `BOUND`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fuxictr.pytorch.models import BaseModel
from made import DEFAULTS, features, make_batch, make_feature_map
from made_training import training_options

from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.callbacks import CallbackList
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN

SETTINGS: dict[str, Any] = {
    "dnn_activations": "Dice",
    "batch_norm": True,
    "attention_type": "din_attention",
    "aux_loss_alpha": 1,
    "aux_negatives": "in_batch",
    "aux_num_negatives": 2,
    "learning_rate": 0.01,
}
ROWS = [8, 7, 5, 1, 2, 3]

EPSILON = 1e-3
"""Adam's ε.

A bias before a batch normalisation has a gradient of 0 but for rounding, 1e-17. With the usual ε of 1e-8 Adam makes
steps of 0.01 * 1e-17 / 1e-8 = 1e-11 of it, other ones on each processor. With this ε they are of 1e-16, an ulp.
"""

BOUND = 1e-11
"""How far two trainings may be apart, in any loss and any weight, that differ by rounding alone.

An ulp in each initial weight of a single process, 2e-16 of it, moves the losses of these runs by 6e-14 at most and
their weights by 3e-13: a batch normalisation of nearly equal rows multiplies rounding by up to 1 / sqrt(1e-5), and
there are two. `assert_an_ulp_matters_little` holds that to a tenth of the bound; the rest is for rounding in each step.
"""

UNDONE = 1e-6
"""Least difference of a loss if a step that joins several processes is left out."""


def double(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}


def made(data_dir: Path, **settings: Any) -> DIEN:
    torch.manual_seed(0)
    spec = features()
    del spec["price"]  # the zoo converts numbers to float32
    model = DIEN(make_feature_map(spec, data_dir), **{**DEFAULTS, **SETTINGS, **settings}).double()
    model.get_labels = lambda inputs: inputs["label"].view(-1, 1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Embedding):
                layer.weight[1:].normal_(std=0.5)
        for name, weight in model.named_parameters():
            if "bias" in name:  # if the gradient is 0 except for rounding, Adam amplifies the rounding
                weight.normal_(std=0.1)
    return model


def prepared(store: WeightStore, settings: dict[str, Any]) -> CallbackList:
    """Return the callback of `prepare_training`, with `EPSILON`."""
    callback = prepare_training(store, training_options(settings))
    for group in store.model.optimizer.param_groups:
        group["eps"] = EPSILON
    return callback


def nudge(model: BaseModel, seed: int) -> None:
    """Move each weight by an ulp, up or down."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.is_floating_point():
                up = torch.randint(0, 2, weight.shape, generator=generator).bool()
                weight.mul_(torch.where(up, 1 + 2**-52, 1 - 2**-52))


Run = tuple[list[float], dict[str, torch.Tensor]]
"""Losses of a training, and the weights after it."""


def assert_same(found: Run, expected: Run, case: str = "", bound: float = BOUND) -> None:
    assert found[0] == pytest.approx(expected[0], abs=bound, rel=0), case
    assert found[1].keys() == expected[1].keys()
    for name, value in expected[1].items():
        torch.testing.assert_close(found[1][name], value, atol=bound, rtol=0, msg=f"{case}: {name}")


def assert_an_ulp_matters_little(run: Callable[[int | None], Run], case: str) -> None:
    """Check that a nudge of one ulp matters little; `run` takes its seed, or None."""
    expected = run(None)
    for seed in (1, 2):
        assert_same(run(seed), expected, case, BOUND / 10)


def batches(steps: int) -> list[dict[str, torch.Tensor]]:
    """Return uneven batches, some smaller than three processes.

    In every third batch the first half of the rows has no behaviours.
    """
    made = []
    for step in range(steps):
        rows = ROWS[step % len(ROWS)]
        lengths = [0 if step % 3 == 0 and i < rows // 2 + 1 else (3 * step + i * i) % 7 for i in range(rows)]
        batch = double(make_batch(lengths, seed=step))
        del batch["price"]
        made.append(batch)
    return made


def train(
    data_dir: Path, steps: int, workers: ProcessGroup = SINGLE_PROCESS, nudged: int | None = None, **settings: Any
) -> Run:
    """So many steps, after a `nudge` where there is a seed for it."""
    model = made(data_dir, **settings)
    if nudged is not None:
        nudge(model, nudged)
    store = WeightStore(model, workers)
    callback = prepared(store, {"seed": 1, **settings})
    trainer = Trainer(model, max_gradient_norm=1.0, callback=callback, store=store)
    model.train()
    torch.manual_seed(1)
    every = batches(steps)
    callback.before_training(every)
    losses = [trainer.train_step(batch) for batch in every]
    return losses, model.state_dict()
