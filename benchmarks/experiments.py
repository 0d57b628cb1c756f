"""Training steps with the settings of an experiment, on synthetic batches with the lengths of its data set."""

import json
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.package_data import find_config
from dien_fuxictr.experiment.configuration.config import load_config
from dien_fuxictr.experiment.configuration.training_options import TrainingOptions
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from dien_fuxictr.experiment.training_setup import prepare_training
from model_zoo.DIEN.src import DIEN

from .data_sets import FILE
from .entries import COLUMNS, OURS, Entry, own_backends, peers
from .synthetic_batches import HISTORIES, Sizes, make_batch, make_feature_map
from .systems import NET, NO_AUX, PEER_WORKS, System, Work, zoo_system

PLAIN = {
    **dict.fromkeys(("attention_activation", "aux_activation", "dnn_activations"), "ReLU"),
    **dict.fromkeys(("net_dropout", "attention_dropout"), 0),
}
NOTES = (
    "negatives of the auxiliary loss are columns of the batch, one a behaviour; a context feature of 26 values is "
    "added",
    "plain: the experiment's settings, but ReLU in all hidden layers and no dropout",
    "the other projects leave out regularisers, averaged weights, pooled histories, weights of the auxiliary loss, and "
    "dropout in the attention unit and the auxiliary network. The layers of their auxiliary networks are 100 and 50. "
    "torch-rechub has bilinear attention, inner products as auxiliary loss and ReLU in its MLP. FuxiCTR's has no "
    "auxiliary loss",
)


class ExperimentStep(NamedTuple):
    """Training step of an experiment.

    Attributes:
        expid: the experiment.
        params: its keywords and training keys.
        sizes: sizes of its data set and model.
        lengths: percentiles of the lengths of its histories.
    """

    expid: str
    params: dict[str, Any]
    sizes: Sizes
    lengths: list[int]

    @property
    def has_auxiliary(self) -> bool:
        """Return whether it has the auxiliary loss."""
        return self.params["aux_loss_alpha"] > 0

    def batch(self) -> dict[str, Tensor]:
        """Return a batch of its size."""
        places = np.linspace(0, len(self.lengths) - 1, self.params["batch_size"]).round().astype(int)
        return make_batch(self.sizes, np.random.default_rng(0).permutation(np.array(self.lengths)[places]))

    def entries(self, zoo: Path | None) -> tuple[list[Entry], list[str]]:
        """Return what can be measured here, this project's first, and notes."""
        backends, notes = own_backends()
        off = {"aux_loss_alpha": 0}
        variants = {self.expid: {}, f"{self.expid}, plain": PLAIN, f"{self.expid}, {NO_AUX.name}": off}
        found = [
            Entry(
                OURS + backend, self._work(name), partial(build, self, changes | {"recurrence_backend": backend}), True
            )
            for name, changes in variants.items()
            for backend in backends[:-1]
            if self.has_auxiliary or changes is not off
        ]
        works = [
            replace(self._work(work.name), attention=work.attention, aux_scorer=work.aux_scorer)
            for work in PEER_WORKS
            if self.has_auxiliary or not work.aux_scorer
        ]
        others, left_out = peers(zoo, works)
        return [*found, *others], [*notes, *left_out, *NOTES]

    def _work(self, name: str) -> Work:
        return Work(
            name,
            NET.attention,
            NET.aux_scorer if self.has_auxiliary else None,
            activation=self.params["dnn_activations"],
            unit_activation=self.params["attention_activation"],
            aux_activation=self.params["aux_activation"],
            gru_type=self.params["gru_type"],
            dropout=self.params["net_dropout"],
            batch_norm=self.params["batch_norm"],
        )


def read_step(expid: str, config: Path, settings: dict[str, Any]) -> ExperimentStep:
    """Return the training step of an experiment.

    Raises:
        UserError: as `load_config`; the model is not DIEN, or the sizes of its data set are unknown.
    """
    defaults = {
        name: each.default for name, each in signature(DIEN).parameters.items() if each.default is not each.empty
    }
    params = defaults | load_config(find_config(config), expid, settings).params
    if params["model"] != "DIEN":
        raise UserError(f"--expid {expid}: model is {params['model']}; it must be DIEN")
    known = json.loads(FILE.read_text())
    if params["dataset_id"] not in known:
        raise UserError(
            f"--expid {expid}: the sizes of data set {params['dataset_id']} are unknown; known: {', '.join(known)}; "
            f"python -m benchmarks.data_sets --expid {expid} prints the line that {FILE} needs"
        )
    row = known[params["dataset_id"]]
    sizes = Sizes(
        items=row["items"],
        categories=row["categories"],
        embedding=params["embedding_dim"],
        attention_units=tuple(params["attention_hidden_units"]),
        aux_units=tuple(params["aux_hidden_units"]),
        mlp_units=tuple(params["dnn_hidden_units"]),
        max_len=row["max_len"],
    )
    return ExperimentStep(expid, params, sizes, row["lengths"])


def build(step: ExperimentStep, changes: dict[str, Any], sizes: Sizes) -> System:
    """Build this project's DIEN, with the experiment's steps.

    Args:
        step: the experiment's.
        changes: keywords with other values.
        sizes: sizes of the data set and the model.
    """
    fields = {"dien_target_field": [tuple(HISTORIES.values())], "dien_sequence_field": [tuple(HISTORIES)]}
    params = {**step.params, "verbose": 0, "feature_specs": None, **fields, **changes}
    has_auxiliary = params["aux_loss_alpha"] > 0
    params |= COLUMNS if has_auxiliary else {"aux_negatives": None, "dien_neg_seq_field": []}
    model = DIEN(make_feature_map(sizes, negatives=has_auxiliary), **params)
    options, store = TrainingOptions.of(params), WeightStore(model)
    callback = prepare_training(store, options)
    trainer = Trainer(model, options.max_gradient_norm, callback=callback, store=store)
    system = replace(zoo_system(model, trims=True), take_step=trainer.train_step)
    callback.before_training([system.prepare(step.batch())])
    return system
