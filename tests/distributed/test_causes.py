"""Each part of data parallelism is needed: without it, losses differ or hang."""

import faulthandler
from collections.abc import Callable
from typing import Any

import made_workers
import pytest
from made_float64 import BOUND, UNDONE, train
from made_workers import together
from torch import Tensor, nn

from dien_fuxictr.distributed import batch_wide as rows
from dien_fuxictr.distributed import distributed_group as group
from dien_fuxictr.experiment.training.optimizers import JointOptimizer

STEPS = 6
PLAIN: dict[str, Any] = {
    "batch_norm": False,
    "dnn_activations": "ReLU",
    "attention_activation": "ReLU",
    "aux_loss_alpha": 0,
}


def own_statistics(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows.AllRows, "__init__", lambda self, _, init=rows.AllRows.__init__: init(self, True))


def mean_of_means(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows.Part, "divisor", lambda _, count: max(count, 1))


def equal_weights(patch: pytest.MonkeyPatch) -> None:
    def init(self: Any, **keywords: Any) -> None:
        plain(self, **{**keywords, "weight": 0.5})

    plain = group._Slice.__init__
    patch.setattr(group._Slice, "__init__", init)


def own_negatives(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rows.Part, "drawn", lambda _, ids, draw: draw(ids))


def regularised_before_the_exchange(patch: pytest.MonkeyPatch) -> None:
    finish: dict[nn.Parameter, Callable[[Tensor], None]] = {}

    def init(self: JointOptimizer, optimizer: Any, tables: Any, shards: Any = ()) -> None:
        finish.update(tables)
        made(self, optimizer, dict.fromkeys(tables, lambda _: None))

    def exchanged(table: nn.Parameter) -> Tensor:
        finish[table](table)
        return exchange(table)

    made, exchange = JointOptimizer.__init__, group._sum_sparse
    patch.setattr(JointOptimizer, "__init__", init)
    patch.setattr(group, "_sum_sparse", exchanged)


CAUSES: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], dict[str, Any]]] = {
    "batch normalisation by a worker's rows": (own_statistics, {**PLAIN, "batch_norm": True}),
    "Dice in the attention by a worker's rows": (own_statistics, {**PLAIN, "attention_activation": "Dice"}),
    "Dice in the MLP by a worker's rows": (own_statistics, {**PLAIN, "dnn_activations": "Dice"}),
    "the auxiliary loss as a mean of means": (mean_of_means, {**PLAIN, "aux_loss_alpha": 1}),
    "the same weight for more and fewer rows": (equal_weights, PLAIN),
    "negatives of a worker's own rows": (own_negatives, {**PLAIN, "aux_loss_alpha": 1}),
    "sparse tables regularised before the exchange": (
        regularised_before_the_exchange,
        {**PLAIN, "embedding_updates": "sparse", "embedding_regularizer": 0.01},
    ),
}


def test_without_it_the_losses_differ(tmp_path, data_dir):
    def work(workers: Any) -> dict[str, tuple[list[float], list[float]]]:
        found = {}
        for name, (undo, settings) in CAUSES.items():
            with pytest.MonkeyPatch.context() as patch:
                whole = train(data_dir, STEPS, workers, **settings)[0]
                undo(patch)
                found[name] = whole, train(data_dir, STEPS, workers, **settings)[0]
        return found

    found, _ = together(2, tmp_path, work)
    for name, (whole, undone) in found.items():
        assert whole == pytest.approx(train(data_dir, STEPS, **CAUSES[name][1])[0], abs=BOUND, rel=0), name
        assert undone != pytest.approx(whole, abs=UNDONE, rel=0), name


def test_workers_without_behaviours_must_take_part(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(rows.AllRows, "tied", lambda _, loss: loss)
    monkeypatch.setattr(made_workers, "TIMEOUT", 5)

    def work(workers: Any) -> None:
        faulthandler.disable()  # gloo may abort the process, with a trace of all of pytest
        train(data_dir, STEPS, workers)

    with pytest.raises(pytest.fail.Exception):
        together(2, tmp_path, work)
