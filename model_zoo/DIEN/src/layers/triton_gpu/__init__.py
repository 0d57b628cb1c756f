"""Kernels in Triton for GPUs, over packed rows; compiled on first use."""

from .function import recurrence
from .launch import require

__all__ = ["recurrence", "require"]
