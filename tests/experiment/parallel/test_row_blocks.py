"""Tables whose rows lie on the workers are trained as whole ones are."""

from typing import Any

import pytest
import torch
from made import TWO, write_catalogues
from made_float64 import batches, made
from made_workers import together
from torch import Tensor

from dien_fuxictr.experiment.parallel.workers import ALONE, Workers
from dien_fuxictr.experiment.sharding.build import build_in_blocks
from dien_fuxictr.experiment.sharding.tables import tables_of
from dien_fuxictr.experiment.techniques import prepare_training
from dien_fuxictr.experiment.training.trainer import Trainer

STEPS = 20
SPARSE = {"embedding_updates": "sparse"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "regularised": {"embedding_regularizer": "l1_l2(0.001,0.01)", "net_regularizer": 0.01},
    "regularised by the batch": {"embedding_regularization": "batch", "embedding_regularizer": 0.1},
    "two sequences": {**TWO, "aux_negatives": "popularity"},
    "averaged": {"weight_averaging": "ema", "behaviour_dropout": 0.3, "embedding_learning_rate": 0.02},
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_catalogues(folder)
    return folder


def train(workers: Workers, data_dir, file, in_blocks: bool, **settings: Any) -> tuple[list[float], dict[str, Tensor]]:
    """From the initial weights in `file`, which the first one to train in blocks writes."""
    settings = {**SPARSE, **settings}
    model = build_in_blocks(lambda: made(data_dir, **settings), workers) if in_blocks else made(data_dir, **settings)
    technique = prepare_training(model, {"seed": 1, **settings})
    tables = tables_of(model, workers, technique)
    if in_blocks and not file.exists():
        workers.wait()
        tables.write_weights(file)
    tables.read_weights(file)
    trainer = Trainer(model, max_gradient_norm=1.0, technique=technique, workers=workers, tables=tables)
    model.train()
    torch.manual_seed(1)
    losses = [trainer.train_step(batch) for batch in batches(STEPS)]
    tables.write_weights(file.with_suffix(f".{workers.count}"))
    return losses, torch.load(file.with_suffix(f".{workers.count}"), weights_only=True)


@pytest.mark.parametrize(("count", "cases"), [(1, ["regularised"]), (2, ["regularised"]), (3, [*CASES])])
def test_losses_and_weights_are_those_of_whole_tables(count, cases, tmp_path, data_dir):
    files = {case: tmp_path / f"{place}.model" for place, case in enumerate(cases)}

    def work(workers: Workers) -> list[Any]:
        return [train(workers, data_dir, files[case], True, **CASES[case]) for case in cases]

    every = together(count, tmp_path, work) if count > 1 else [work(ALONE)]
    for place, case in enumerate(cases):
        losses, weights = train(ALONE, data_dir, files[case], False, **CASES[case])
        for its in every:
            assert its[place][0] == pytest.approx(losses, abs=1e-10, rel=0), case
            assert its[place][1].keys() == weights.keys()
            for name, value in weights.items():
                torch.testing.assert_close(its[place][1][name], value, atol=1e-8, rtol=0, msg=f"{case}: {name}")
