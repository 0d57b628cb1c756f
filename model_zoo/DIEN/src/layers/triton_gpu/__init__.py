"""Kernels in Triton for GPUs, over packed rows; compiled on first use."""

from .function import recurrence

__all__ = ["recurrence"]
