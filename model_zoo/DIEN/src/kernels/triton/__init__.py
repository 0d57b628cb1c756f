"""Kernels in Triton for GPUs, over packed rows; compiled on first use."""

from .function import DTYPES, recurrence
from .kernel_launch import require

__all__ = ["DTYPES", "recurrence", "require"]
