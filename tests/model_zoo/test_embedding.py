"""Embeddings of packed behaviours beside torch's own."""

import pytest
import torch
from torch import Tensor, nn

from model_zoo.DIEN.src.embedding import Steps, lookup


def make_tables(sizes: tuple[tuple[int, int], ...], padding: int | None, sparse: bool = False) -> list[nn.Embedding]:
    torch.manual_seed(0)
    return [nn.Embedding(rows, size, padding, sparse=sparse, dtype=torch.float64) for rows, size in sizes]


def by_torch(tables: list[nn.Embedding], ids: list[Tensor]) -> Tensor:
    return torch.cat([table(x) for table, x in zip(tables, ids, strict=True)], dim=-1)


@pytest.mark.parametrize("padding", [0, 3, None])
@pytest.mark.parametrize("shape", [(0,), (1,), (200,), (40, 3)])
def test_values_and_gradients_are_those_of_nn_embedding(shape: tuple[int, ...], padding: int | None) -> None:
    tables = make_tables(((9, 5), (4, 1), (30, 16)), padding)
    ids = [torch.randint(0, table.num_embeddings, shape) for table in tables]
    found, expected = lookup(Steps(tables, ids))[0], by_torch(tables, ids)
    assert torch.equal(found, expected)
    weights = [table.weight for table in tables]
    d = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, d), torch.autograd.grad(expected, weights, d), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


def test_fields_that_share_a_table_add_their_gradients() -> None:
    (table,) = make_tables(((6, 2),), 0)
    ids = [torch.tensor([1, 1, 0, 5]), torch.tensor([5, 2, 1, 0])]
    together, alone = lookup(Steps([table, table], ids), Steps([table], [torch.tensor([1])]))
    (together.sum() + alone.sum()).backward()
    assert table.weight.grad is not None
    assert table.weight.grad[:, 0].tolist() == [0, 4, 1, 0, 0, 2]


def test_a_frozen_table_needs_no_gradient() -> None:
    tables = make_tables(((6, 2), (6, 2)), 0)
    tables[0].weight.requires_grad_(False)
    lookup(Steps(tables, [torch.tensor([1]), torch.tensor([2])]))[0].sum().backward()
    assert tables[0].weight.grad is None
    assert tables[1].weight.grad is not None


def test_sparse_tables_get_sparse_gradients() -> None:
    (table,) = make_tables(((6, 2),), 0, sparse=True)
    lookup(Steps([table], [torch.tensor([1, 4])]))[0].sum().backward()
    assert table.weight.grad is not None and table.weight.grad.is_sparse


def test_gradients_are_equal_in_every_bit() -> None:
    table = nn.Embedding(50, 18)
    ids, d = [torch.randint(0, 50, (20_000,))] * 2, torch.randn(20_000, 36)
    first, *others = (torch.autograd.grad(lookup(Steps([table, table], ids))[0], table.weight, d)[0] for _ in range(5))
    assert all(torch.equal(first, other) for other in others)


def test_a_second_derivative_is_an_error() -> None:
    (table,) = make_tables(((6, 2),), 0)
    (gradient,) = torch.autograd.grad(
        lookup(Steps([table], [torch.tensor([1])]))[0].square().sum(), table.weight, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
