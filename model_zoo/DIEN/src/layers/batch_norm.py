"""Batch normalisation for a batch of one row, which has no variance."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from . import batch_scope


@contextmanager
def running_statistics(module: nn.Module, when: bool) -> Iterator[None]:
    """Make batch normalisations use their running statistics within the context.

    One row alone has no statistics, unless other processes have more rows of the batch.

    Args:
        module: module that contains the batch normalisations.
        when: whether the batch has one row; False changes nothing.
    """
    norms = [
        m
        for m in module.modules()
        if isinstance(m, nn.BatchNorm1d) and m.training and when and not batch_scope.batch().is_shard
    ]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
