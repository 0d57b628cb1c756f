"""Interface that a benchmark uses for a DIEN of any origin."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from dien_fuxictr.experiment.training.gradients import clip_gradients, gradient_norm

from .synthetic_batches import Sizes

MAX_GRADIENT_NORM = 10.0


@dataclass(frozen=True)
class Work:
    """Work of a model besides the sizes of its layers.

    Only equal work is compared.

    Attributes:
        name: name for tables.
        attention, aux_scorer: as the keywords of DIEN; no scorer means no auxiliary loss.
        activation, unit_activation, aux_activation: of the MLP, of the attention unit and of the auxiliary network.
        gru_type: kind of the second GRU layer.
        dropout: rate in the MLP, and in the auxiliary network where the model has dropout there.
        batch_norm: whether the MLP has batch normalisation.
    """

    name: str
    attention: str
    aux_scorer: str | None
    activation: str = "ReLU"
    unit_activation: str = "Sigmoid"
    aux_activation: str = "Sigmoid"
    gru_type: str = "AUGRU"
    dropout: float = 0
    batch_norm: bool = True


NET = Work("DIN unit, auxiliary net", "din_attention", "net")
NO_AUX = Work("DIN unit, no auxiliary loss", "din_attention", None)
INNER_PRODUCT = Work("bilinear, auxiliary inner product", "bilinear_attention", "inner_product", "Dice")
PEER_WORKS = NET, NO_AUX, INNER_PRODUCT


@dataclass
class System:
    """One model with its optimizer.

    Attributes:
        prepare: from a batch of `synthetic_batches` to what the model takes, not timed.
        loss: of a prepared batch, all its parts. score: of a prepared batch, probabilities.
        trims: whether its loader pads to the longest history of the batch; others pad to max_len.
        trimmable: whether the model takes such a batch, at least.
        take_step: whole training step on a prepared batch; None: loss, backward, clipping and optimizer.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    prepare: Callable[[dict[str, Tensor]], Any]
    loss: Callable[[Any], Tensor]
    score: Callable[[Any], Tensor]
    trims: bool = False
    trimmable: bool = True
    take_step: Callable[[Any], Any] | None = None

    @cached_property
    def _every(self) -> list[nn.Parameter]:
        return list(self.model.parameters())

    @property
    def parameters(self) -> int:
        """Return the number of trained weights outside of embedding tables."""
        tables = {id(table.weight) for table in self.model.modules() if isinstance(table, nn.Embedding)}
        return sum(weight.numel() for weight in self.model.parameters() if id(weight) not in tables)

    def step(self, batch: Any) -> None:
        """Take a whole training step on a prepared batch."""
        if self.take_step:
            self.take_step(batch)
            return
        self.optimizer.zero_grad()
        self.loss(batch).backward()
        self.update()

    def update(self) -> None:
        """Clip the gradients, if configured, and update the weights."""
        clip_gradients(self._every, MAX_GRADIENT_NORM, gradient_norm(self._every).item())
        self.optimizer.step()

    @torch.no_grad()
    def predict(self, batch: Any) -> Tensor:
        """Return the scores of a prepared batch."""
        return self.score(batch)

    def to(self, device: str) -> "System":
        """Return the system on a device, before its first step.

        The model and the batches of `prepare` are moved.
        """
        model: Any = self.model.to(device)
        model.device = torch.device(device)  # models of the zoo move their inputs to this device
        return replace(self, prepare=lambda batch: self.prepare({name: x.to(device) for name, x in batch.items()}))


def zoo_system(model: BaseModel, trims: bool) -> System:
    """Return a system with a model of the zoo's kind."""
    names = [*model.feature_map.features, *model.feature_map.labels]

    def loss(batch: dict[str, Tensor]) -> Tensor:
        return model.compute_loss(model(batch), model.get_labels(batch))

    return System(
        model,
        model.optimizer,
        lambda batch: {name: batch[name] for name in names},
        loss,
        lambda batch: model(batch)["y_pred"].squeeze(1),
        trims,
    )


def keywords(sizes: Sizes, work: Work) -> dict[str, Any]:
    """Return the keywords of DIEN, equal for the zoo and this project."""
    return {
        "optimizer": "adam",
        "loss": "binary_crossentropy",
        "metrics": ["AUC"],
        "task": "binary_classification",
        "verbose": 0,
        "model_root": "unused",
        "learning_rate": 1e-3,
        "embedding_dim": sizes.embedding,
        "dnn_hidden_units": list(sizes.mlp_units),
        "dnn_activations": work.activation,
        "batch_norm": work.batch_norm,
        "net_dropout": work.dropout,
        "dien_target_field": [("item_id", "cate_id")],
        "dien_sequence_field": [("item_history", "cate_history")],
        "gru_type": work.gru_type,
        "attention_type": work.attention,
        "attention_hidden_units": list(sizes.attention_units),
        "attention_activation": work.unit_activation,
        "aux_hidden_units": list(sizes.aux_units),
        "aux_activation": work.aux_activation,
    }
