"""Optimizers that take their step in one kernel, and the learning rate of embeddings."""

import torch
from fuxictr.pytorch.models import BaseModel
from torch.optim import Adam, Optimizer

from .sparse_tables import JointOptimizer, embedding_tables


def fuse(optimizer: Optimizer | JointOptimizer) -> None:
    """Let Adam and AdamW move all parameters in one call; the weights are the same but for rounding.

    Others stay as they are: Adagrad has made its state before, and SGD may get sparse gradients.

    Args:
        optimizer: has taken no step. A state that it loads afterwards brings its own choice along.
    """
    dense = optimizer.dense if isinstance(optimizer, JointOptimizer) else optimizer
    if isinstance(dense, Adam):
        for group in dense.param_groups:
            group["fused"] = all(torch.is_floating_point(parameter) for parameter in group["params"])


def set_embedding_rate(model: BaseModel, learning_rate: float) -> None:
    """Let the embedding tables have another learning rate than all else; a plateau lowers both alike.

    Args:
        model: compiled, before its first step. Its optimizer changes.
    """
    if isinstance(model.optimizer, JointOptimizer):
        model.optimizer.lazy.param_groups[0]["lr"] = learning_rate
        return
    tables = [*embedding_tables(model).values()]
    taken = set(map(id, tables))
    for group in model.optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in taken]
    if tables:
        model.optimizer.add_param_group({"params": tables, "lr": learning_rate})
