"""Kernels in Triton for GPUs, over packed rows; compiled on first use."""

from .function import DTYPES, KINDS, recurrence
from .kernel_launch import require

__all__ = ["DTYPES", "KINDS", "recurrence", "require"]
