"""A DIEN with all that looks at a whole batch, in float64, and batches for it: equal trainings stay equal there."""

from pathlib import Path
from typing import Any

import torch
from made import DEFAULTS, features, make_batch, make_feature_map

from dien_fuxictr.experiment.parallel.workers import ALONE, Workers
from dien_fuxictr.experiment.techniques import prepare_training
from dien_fuxictr.experiment.training.trainer import Trainer
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


def double(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x.double() if x.is_floating_point() else x for name, x in batch.items()}


def made(data_dir: Path, **settings: Any) -> DIEN:
    torch.manual_seed(0)
    spec = features()
    del spec["price"]  # the zoo makes numbers float32
    model = DIEN(make_feature_map(spec, data_dir), **{**DEFAULTS, **SETTINGS, **settings}).double()
    model.get_labels = lambda inputs: inputs["label"].view(-1, 1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Embedding):
                layer.weight[1:].normal_(std=0.5)
        for name, weight in model.named_parameters():
            if "bias" in name:  # where the gradient is 0 but for rounding, Adam makes much of nothing
                weight.normal_(std=0.1)
    return model


def batches(steps: int) -> list[dict[str, torch.Tensor]]:
    """Uneven ones, some smaller than three workers; in each third the first half of the rows has no behaviours."""
    made = []
    for step in range(steps):
        rows = ROWS[step % len(ROWS)]
        lengths = [0 if step % 3 == 0 and i < rows // 2 + 1 else (3 * step + i * i) % 7 for i in range(rows)]
        batch = double(make_batch(lengths, seed=step))
        del batch["price"]
        made.append(batch)
    return made


def train(
    data_dir: Path, steps: int, workers: Workers = ALONE, **settings: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of so many steps, and the weights after them."""
    model = made(data_dir, **settings)
    technique = prepare_training(model, {"seed": 1, **settings})
    trainer = Trainer(model, max_gradient_norm=1.0, technique=technique, workers=workers)
    model.train()
    torch.manual_seed(1)
    every = batches(steps)
    technique.before_training(every)
    losses = [trainer.train_step(batch) for batch in every]
    return losses, model.state_dict()
