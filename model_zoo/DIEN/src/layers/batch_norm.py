"""Batch normalisation of a batch of one row, which has no variance."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from . import batch_scope


@contextmanager
def running_statistics(module: nn.Module, when: bool) -> Iterator[None]:
    """One row has no batch statistics, unless others have more: batch normalisations use their running ones instead."""
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
