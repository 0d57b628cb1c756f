"""Embeddings of packed behaviours out of tables, with a gradient of the tables that does not wait for torch's."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def lookup(tables: list[nn.Embedding], ids: list[Tensor]) -> Tensor:
    """Embeddings of all fields, side by side.

    The gradient of a table is dense, or sparse where the table says so. On a CPU the dense one is summed row by row
    in the order of the ids, three to five times faster than that of `nn.functional.embedding`.

    Args:
        tables: one a field. ids: (...) int64, one a field.

    Returns:
        (..., sum of the tables' sizes).
    """
    if any(table.sparse or table.weight.device.type != "cpu" for table in tables):
        return torch.cat([table(x) for table, x in zip(tables, ids, strict=True)], dim=-1)
    flat = _Lookup.apply([table.padding_idx for table in tables], [x.reshape(-1) for x in ids],
                         *(table.weight for table in tables))
    return cast(Tensor, flat).view(*ids[0].shape, flat.size(-1))


class _Lookup(Function):
    @staticmethod
    def forward(ctx: Any, paddings: list[int | None], ids: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.paddings = paddings
        ctx.rows = [len(weight) for weight in weights]
        ctx.sizes = [weight.size(1) for weight in weights]
        ctx.save_for_backward(*ids)
        found = weights[0].new_empty(len(ids[0]), sum(ctx.sizes))
        for part, weight, x in zip(found.split(ctx.sizes, dim=1), weights, ids, strict=True):
            torch.index_select(weight, 0, x, out=part)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients: list[Tensor | None] = []
        fields = zip(ctx.needs_input_grad[2:], d.split(ctx.sizes, dim=1), ctx.rows, ctx.saved_tensors, ctx.paddings,
                     strict=True)
        for needed, part, rows, ids, padding in fields:
            gradient = None
            if needed:
                # Contiguous: index_add takes another way, as slow as the one that is avoided, where it is not.
                gradient = part.new_zeros(rows, part.size(1)).index_add_(0, ids, part.contiguous())
                if padding is not None:
                    gradient[padding] = 0
            gradients.append(gradient)
        return None, None, *gradients
