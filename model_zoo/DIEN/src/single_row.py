"""Batch normalisation of a batch of one row, which has no variance."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def running_statistics(module: nn.Module, when: bool) -> Iterator[None]:
    """One row has no batch statistics: batch normalisations use their running ones instead."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d) and m.training and when]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
