"""Kernels in C++ for the CPU, over packed rows; compiled on first use."""

from .gru import recurrence

__all__ = ["recurrence"]
