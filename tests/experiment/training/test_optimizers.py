"""Fused steps against torch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from dien_fuxictr.experiment.training.optimizers import JointOptimizer, fuse


def trained(model: nn.Module, optimizer: Optimizer, steps: int) -> list[torch.Tensor]:
    for step in range(steps):
        optimizer.zero_grad()
        model(torch.linspace(-1, 1 + step, 3, dtype=next(model.parameters()).dtype)).square().sum().backward()
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_fused_steps_are_torchs_but_for_rounding(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    other = copy.deepcopy(model)
    optimizer = kind(other.parameters(), lr=0.1)
    fuse(optimizer)
    assert [group["fused"] for group in optimizer.param_groups] == [True]
    expected = trained(model, kind(model.parameters(), lr=0.1), steps=20)
    torch.testing.assert_close(trained(other, optimizer, steps=20), expected, rtol=1e-9, atol=1e-9)


def test_loaded_optimizer_state_continues_unchanged():
    model = nn.Linear(3, 2)
    unfused = Adam(model.parameters(), lr=0.1)
    trained(model, unfused, steps=3)
    other = copy.deepcopy(model)
    optimizer = Adam(other.parameters(), lr=0.1)
    fuse(optimizer)
    optimizer.load_state_dict(copy.deepcopy(unfused.state_dict()))
    assert not optimizer.param_groups[0]["fused"]
    assert all(map(torch.equal, trained(other, optimizer, steps=3), trained(model, unfused, steps=3)))


def test_the_dense_part_of_a_joint_optimizer_is_fused():
    table, rest = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(2))
    joint = JointOptimizer(Adam([table, rest]), {table: lambda _: None})
    fuse(joint)
    assert joint.dense.param_groups[0]["fused"] and "fused" not in joint.lazy.param_groups[0]


@pytest.mark.parametrize("kind", [SGD, Adagrad])
def test_sparse_gradients_still_train(kind):
    table = nn.Embedding(4, 2, sparse=True)
    optimizer = kind(table.parameters(), lr=0.1)
    fuse(optimizer)
    before = table.weight.detach().clone()
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert (table.weight != before).any(dim=1).tolist() == [False, True, False, False]
