"""Optimizers that take their step in one kernel."""

import torch
from torch.optim import Adam, Optimizer

from .sparse_tables import JointOptimizer


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
