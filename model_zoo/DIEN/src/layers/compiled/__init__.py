"""Kernels in C++ for the CPU, over packed rows; compiled on first use."""

from .attention import attention_scores
from .gru import recurrence

__all__ = ["attention_scores", "recurrence"]
