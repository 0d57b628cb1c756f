"""Embeddings of packed behaviours, with a faster gradient than torch's on CPUs."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import torch
from fuxictr.pytorch.layers import FeatureEmbeddingDict
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def embed_steps(layer: FeatureEmbeddingDict, *every: tuple[tuple[str, ...], Iterable[Tensor]]) -> tuple[Tensor, ...]:
    """Embed steps, with their fields concatenated.

    Each table gets one gradient for all its look-ups.

    Args:
        layer: the zoo's embedding layer.
        every: names of features, and ids (...) of each feature.

    Returns:
        One (..., D) per entry of `every`.
    """
    names = {name for fields, _ in every for name in fields}
    tables = {name: layer.embedding_layers[name] for name in names}
    encoded = any(name in layer.feature_encoders for name in names)
    if not encoded and all(type(table) is nn.Embedding for table in tables.values()):
        return lookup(
            *(Steps([cast(nn.Embedding, tables[name]) for name in fields], tuple(ids)) for fields, ids in every)
        )
    embedded = [layer(dict(zip(*steps, strict=True))) for steps in every]
    return tuple(
        torch.cat([x[name] for name in fields], dim=-1) for x, (fields, _) in zip(embedded, every, strict=True)
    )


class Steps(NamedTuple):
    """Look-up of steps: one table and one tensor of ids (...) int64 per field."""

    tables: Sequence[nn.Embedding]
    ids: Sequence[Tensor]


def lookup(*every: Steps) -> tuple[Tensor, ...]:
    """Return the embeddings of each entry, with its fields concatenated.

    The gradient of a table is dense, or sparse if the table says so. On a CPU a dense gradient is summed row by row
    over all look-ups in the table, three to five times as fast as by `nn.functional.embedding`.

    Returns:
        One (..., sum of the tables' sizes) per entry.
    """
    if any(table.sparse or table.weight.device.type != "cpu" for steps in every for table in steps.tables):
        return tuple(torch.cat([table(x) for table, x in zip(*steps, strict=True)], dim=-1) for steps in every)
    tables = list(dict.fromkeys(table for steps in every for table in steps.tables))
    places = [[(tables.index(table), x.reshape(-1)) for table, x in zip(*steps, strict=True)] for steps in every]
    found = _Lookup.apply(places, [table.padding_idx for table in tables], *(table.weight for table in tables))
    return tuple(rows.view(*steps.ids[0].shape, rows.size(-1)) for rows, steps in zip(found, every, strict=True))


class _Lookup(Function):
    @staticmethod
    def forward(
        ctx: Any, places: list[list[tuple[int, Tensor]]], paddings: list[int | None], *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.places, ctx.paddings = places, paddings
        ctx.shapes = [weight.shape for weight in weights]
        ctx.set_materialize_grads(False)
        every = []
        for fields in places:
            sizes = [weights[number].size(1) for number, _ in fields]
            rows = weights[0].new_empty(len(fields[0][1]), sum(sizes))
            for part, (number, ids) in zip(rows.split(sizes, dim=1), fields, strict=True):
                torch.index_select(weights[number], 0, ids, out=part)
            every.append(rows)
        return tuple(every)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *every: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients: list[Tensor | None] = [None] * len(ctx.shapes)
        for fields, d in zip(ctx.places, every, strict=True):
            if d is None:
                continue
            sizes = [ctx.shapes[number][1] for number, _ in fields]
            for part, (number, ids) in zip(d.split(sizes, dim=1), fields, strict=True):
                if ctx.needs_input_grad[2 + number]:
                    if (gradient := gradients[number]) is None:
                        gradients[number] = gradient = d.new_zeros(ctx.shapes[number])
                    # index_add is slow for a part that is not contiguous, as slow as the gradient of
                    # nn.functional.embedding.
                    gradient.index_add_(0, ids, part.contiguous())
        for gradient, padding in zip(gradients, ctx.paddings, strict=True):
            if gradient is not None and padding is not None:
                gradient[padding] = 0
        return None, None, *gradients
