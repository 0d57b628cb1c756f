"""A model whose embedding tables lie on the workers, each with some of their rows; they are never whole anywhere."""

from collections.abc import Callable

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from dien_fuxictr.common.errors import UserError

from ..process_group import ProcessGroup
from ..row_blocks import RowBlocks
from .deferred import Deferred


def build_in_blocks(build: Callable[[], BaseModel], workers: ProcessGroup) -> BaseModel:
    """Build a model, with `RowBlocks` in the place of each `nn.Embedding` that it makes.

    Initial weights have the distributions that the constructor gives them; they follow from the global generator, and
    are the same for any number of workers. A table that the constructor makes out of a tensor stays whole.

    Args:
        build: runs the constructor.
        workers: who have the tables; their global generators are in the same state.

    Raises:
        UserError: a table cannot be filled by blocks, or another layer has its weight, too.
    """
    deferred = Deferred()
    with deferred.construct():
        model = build()
    made: dict[Tensor, RowBlocks] = {}
    for layer in [*model.modules()]:
        for key, child in layer._modules.items():
            if isinstance(child, nn.Embedding) and child.weight.is_meta:
                layer._modules[key] = made.setdefault(child.weight, _blocks(child, deferred, model, workers))
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if left:
        raise UserError(f"embedding_sharding: rows does not fit the model: {left[0]} is tied to an embedding table")
    for table in made.values():
        table.initialise(int(torch.randint(2**40, ())))
    for weight in made:
        model.optimizer.state.pop(weight, None)
    for group in model.optimizer.param_groups:
        group["params"] = [made[p].weight if p in made else p for p in group["params"]]
    return model


def _blocks(table: nn.Embedding, deferred: Deferred, model: BaseModel, workers: ProcessGroup) -> RowBlocks:
    shape, trained = (table.num_embeddings, table.embedding_dim), table.weight.requires_grad
    filling = deferred.filling(table.weight)
    return RowBlocks(shape, filling, workers, table.padding_idx, trained, filling.dtype, model.device)
