"""Metrics of several workers are one process's, to the last digit."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from made import make_batch
from made_models import make_model
from made_workers import together

from dien_fuxictr.experiment.evaluation.evaluate import Evaluation, evaluate
from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore

METRICS = ["AUC", "gAUC", "logloss", "NDCG(k=2)"]
SIZES = [32, 32, 32, 7]


def loader() -> Iterator[dict[str, torch.Tensor]]:
    for seed, rows in enumerate(SIZES):
        batch = make_batch([i % 7 for i in range(rows)], seed=seed)
        yield batch | {"user_id": batch["item_id"] % 3}


def evaluated(workers: ProcessGroup) -> Evaluation:
    model = make_model("DIN")
    model.feature_map.group_id = "user_id"
    return evaluate(model, loader(), METRICS, workers)


@pytest.mark.parametrize("count", [2, 5])
def test_metrics_and_scores_are_those_of_one_process(count, tmp_path):
    whole = evaluated(SINGLE_PROCESS)
    assert len(whole.score) == sum(SIZES) and len(set(whole.metrics.values())) == len(METRICS)
    for its in together(count, tmp_path, evaluated):
        assert its.metrics == whole.metrics
        for name in ("label", "score", "group"):
            np.testing.assert_array_equal(getattr(its, name), getattr(whole, name))


def trained(name: str, workers: ProcessGroup) -> tuple[list[float], dict[str, torch.Tensor]]:
    model = make_model(name, batch_norm=True)
    trainer = Trainer(model.train(), store=WeightStore(model, workers))
    return [trainer.train_step(batch) for batch in list(loader())[1:]], model.state_dict()


def test_other_models_train_together_too(tmp_path):
    names = ["DIN", "BST", "DIENLight"]
    every = together(2, tmp_path, lambda workers: [trained(name, workers) for name in names])
    for place, name in enumerate(names):
        losses, weights = trained(name, SINGLE_PROCESS)
        for its in every:
            assert its[place][0] == pytest.approx(losses, rel=1e-4), name
            assert all(torch.equal(value, every[0][place][1][key]) for key, value in its[place][1].items()), name
            assert its[place][1].keys() == weights.keys()
