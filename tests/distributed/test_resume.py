"""A run of several workers continues with any number of workers."""

from pathlib import Path

import pytest
import torch
from made_float64 import BOUND, batches, made, prepared
from made_interrupted import BATCHES, EPOCHS, INTERRUPTED, Losses, Shuffled
from made_workers import together

from dien_fuxictr.experiment.process_group import SINGLE_PROCESS, ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore


def run(workers: ProcessGroup, folder: Path, stop: int | None = None, resume: bool = False) -> dict[int, float]:
    torch.manual_seed(3)
    model = made(folder, model_root=str(folder), model_id="X", eval_steps=5, net_dropout=0, early_stop_patience=99)
    watch = Losses(stop)
    store = WeightStore(model, workers)
    trainer = Trainer(model, observers=[watch], callback=prepared(store, {}), store=store)
    if resume:
        trainer.resume()
    try:
        trainer.fit(Shuffled(), batches(3), EPOCHS)
    except InterruptedError:
        assert stop
    return watch.of


@pytest.mark.parametrize("count", [1, 3])
def test_two_workers_began(count, tmp_path):
    whole = run(SINGLE_PROCESS, tmp_path / "whole")
    begun, *_ = together(2, tmp_path, lambda workers: run(workers, tmp_path, stop=INTERRUPTED))
    assert list(begun) == list(range(1, INTERRUPTED))
    if count == 1:
        rest = run(SINGLE_PROCESS, tmp_path, resume=True)
    else:
        rest, *_ = together(count, tmp_path, lambda workers: run(workers, tmp_path, resume=True))
    assert list(rest) == [*range(INTERRUPTED, EPOCHS * BATCHES + 1)]
    assert begun | rest == pytest.approx(whole, abs=BOUND, rel=0)
