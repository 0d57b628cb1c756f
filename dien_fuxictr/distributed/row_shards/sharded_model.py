"""Build a model whose embedding tables are stored in shards, never as a whole."""

from collections.abc import Callable

import torch
from fuxictr.pytorch.models import BaseModel
from torch import Tensor, nn

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.experiment.process_group import ProcessGroup

from .deferred_tables import DeferredTables
from .row_shard import RowShard


def build_in_shards(build: Callable[[], BaseModel], group: ProcessGroup) -> BaseModel:
    """Build a model with a `RowShard` instead of each `nn.Embedding` that it makes.

    Initial weights have the distributions that the constructor gives them; they follow from the global generator, and
    are the same for any number of group. A table that the constructor makes out of a tensor stays whole.

    Args:
        build: runs the constructor.
        group: the processes that have the tables; their global generators are in the same state.

    Raises:
        UserError: a table cannot be filled row by row, or another layer has its weight, too.
    """
    deferred = DeferredTables()
    with deferred.construct():
        model = build()
    made: dict[Tensor, RowShard] = {}
    for layer in [*model.modules()]:
        for key, child in layer._modules.items():
            if isinstance(child, nn.Embedding) and child.weight.is_meta:
                layer._modules[key] = made.setdefault(child.weight, _row_shard(child, deferred, model, group))
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if left:
        raise UserError(
            f"embedding_sharding = rows cannot be combined with this model: {left[0]} is tied to an embedding table"
        )
    for table in made.values():
        table.initialise(int(torch.randint(2**40, ())))
    for weight in made:
        model.optimizer.state.pop(weight, None)
    for parameters in model.optimizer.param_groups:
        parameters["params"] = [made[p].weight if p in made else p for p in parameters["params"]]
    return model


def _row_shard(table: nn.Embedding, deferred: DeferredTables, model: BaseModel, group: ProcessGroup) -> RowShard:
    shape, trained = (table.num_embeddings, table.embedding_dim), table.weight.requires_grad
    filling = deferred.filling(table.weight)
    return RowShard(
        shape=shape,
        initial=filling,
        group=group,
        padding_idx=table.padding_idx,
        trained=trained,
        dtype=filling.dtype,
        device=model.device,
    )
