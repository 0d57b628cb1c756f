"""Norm of gradients, and clipping to it."""

import pytest
import torch

from dien_fuxictr.experiment.training.gradients import clip_gradients, gradient_norm


def test_clipping_equals_torch_and_takes_sparse_gradients():
    generator = torch.Generator().manual_seed(0)
    layer, reference = torch.nn.Linear(5, 3), torch.nn.Linear(5, 3)
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        ours.grad = torch.randn(ours.shape, generator=generator)
        theirs.grad = ours.grad.clone()
    norm = gradient_norm([*layer.parameters()])
    clip_gradients([*layer.parameters()], 0.5, norm.item())
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5))
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)

    table = torch.nn.Embedding(6, 2, sparse=True)
    (table(torch.tensor([1, 1, 4])) * torch.tensor([3.0, 4.0])).sum().backward()
    expected = table.weight.grad.to_dense()
    norm = gradient_norm([*table.parameters()])
    clip_gradients([*table.parameters()], 1.0, norm.item())
    assert norm == pytest.approx(expected.norm().item())
    torch.testing.assert_close(table.weight.grad.to_dense(), expected / (norm + 1e-6))


def test_gradients_within_the_norm_are_not_written_to():
    layer = torch.nn.Linear(5, 3)
    layer(torch.ones(5)).sum().backward()
    parameters = [*layer.parameters()]
    written = [parameter.grad._version for parameter in parameters]
    clip_gradients(parameters, 100.0, gradient_norm(parameters).item())
    assert [parameter.grad._version for parameter in parameters] == written
    clip_gradients(parameters, 1.0, gradient_norm(parameters).item())
    assert [parameter.grad._version for parameter in parameters] != written
