"""`aux_negative_scope` and `sync_batch_norm`: what each process keeps for itself."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from made import write_catalogues
from made_float64 import batches, made
from made_workers import together

from dien_fuxictr.distributed import distributed_group as group
from dien_fuxictr.experiment.process_group import ProcessGroup
from dien_fuxictr.experiment.training.trainer import Trainer
from dien_fuxictr.experiment.training.weight_store import WeightStore
from model_zoo.DIEN.src.aux_negatives import BatchPool, draw_against
from model_zoo.DIEN.src.layers import batch_scope

ROWS = 5
"""Rows, of which the first of two workers has 2."""


@pytest.mark.parametrize(
    ("params", "large", "own"),
    [
        ({"aux_negative_scope": "batch"}, 1, False),
        ({"aux_negative_scope": "shard"}, 16, True),
        ({}, 2, False),
        ({}, 1, True),  # default above `LARGE` workers
    ],
)
def test_negatives_are_of_the_batch_or_of_the_workers_own_rows(tmp_path, monkeypatch, params, large, own):
    monkeypatch.setattr(group, "LARGE", large)

    def drawn(workers: ProcessGroup) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(1)
        workers.follow(params.get("aux_negative_scope"), sync_batch_norm=True)
        ids = torch.arange(3).unsqueeze(0) + 10 * workers.rank
        with workers.shard({"label": torch.ones(ROWS)}, ROWS).computed():
            found, valid = batch_scope.batch().drawn(ids, lambda ids: draw_against(BatchPool(ids), ids[0], 50))
        assert found.shape == (1, 3, 50) and valid.all() and not (found[0] == ids[0].unsqueeze(1)).any()
        return found.unique(), found, torch.get_rng_state()

    (mine, first, state), (its, second, its_state) = together(2, tmp_path, drawn)
    assert mine.tolist() == ([0, 1, 2] if own else [0, 1, 2, 10, 11, 12])
    assert its.tolist() == ([10, 11, 12] if own else [0, 1, 2, 10, 11, 12])
    assert torch.equal(state, its_state) and not torch.equal(first + 10, second)


def test_each_worker_normalises_by_its_own_rows(tmp_path):
    torch.manual_seed(0)
    x = torch.randn(ROWS, 3)

    def normalised(workers: ProcessGroup) -> tuple[torch.Tensor, torch.nn.BatchNorm1d, int]:
        sums = []
        real = dist.all_reduce
        dist.all_reduce = lambda *values: sums.append(real(*values))  # in this fork
        workers.follow(None, sync_batch_norm=False)
        layer = torch.nn.BatchNorm1d(3)
        shard = workers.shard({"x": x, "label": torch.ones(ROWS)}, ROWS)
        with shard.computed():
            y = layer(shard.batch["x"])
        before = len(sums)
        shard.backward(y.sum(), [*layer.parameters()])
        return y.detach(), layer, before

    (y, layer, sums), (its_y, its_layer, _) = together(2, tmp_path, normalised)
    assert sums == 0, "nobody waits in the forward pass"
    parts = x[:2], x[2:]
    for got, part in zip((y, its_y), parts, strict=True):
        torch.testing.assert_close(got, F.batch_norm(part, None, None, training=True))
    mean = 0.1 * (2 / 5 * parts[0].mean(0) + 3 / 5 * parts[1].mean(0))
    var = 0.9 + 0.1 * (2 / 5 * parts[0].var(0) + 3 / 5 * parts[1].var(0))
    for one in (layer, its_layer):
        torch.testing.assert_close(one.running_mean, mean)
        torch.testing.assert_close(one.running_var, var)


def test_workers_with_rows_of_their_own_stay_equal(tmp_path):
    """Also where one of them has no behaviours, or a single row."""
    write_catalogues(tmp_path)

    def trained(workers: ProcessGroup) -> dict[str, torch.Tensor]:
        workers.follow("shard", sync_batch_norm=False)
        model = made(tmp_path, attention_dropout=0.2)
        trainer = Trainer(model, max_gradient_norm=1.0, store=WeightStore(model, workers))
        model.train()
        torch.manual_seed(1)
        losses = [trainer.train_step(batch) for batch in batches(12)]
        return {**model.state_dict(), "losses": torch.tensor(losses), "generator": torch.get_rng_state()}

    first, second, third = together(3, tmp_path, trained)
    assert any("running_mean" in name for name in first)
    for name, value in first.items():
        assert torch.equal(value, second[name]) and torch.equal(value, third[name]), name


def test_both_are_keys_of_an_entry(workspace, bad):
    workspace.write_configs({"X": {"aux_negative_scope": "shard", "sync_batch_norm": False, "epochs": 1}})
    assert workspace.run(expid="X") == 0
    assert "aux_negative_scope = 'all'" in bad("--set", "aux_negative_scope=all", expid="X")
    assert "must be True or False" in bad("--set", "sync_batch_norm=batch", expid="X")
