"""Kernels in C++ for the CPU, over packed rows; compiled on first use."""

from .attention import attention_scores
from .auxiliary import next_behaviour_loss
from .gru import recurrence

__all__ = ["attention_scores", "next_behaviour_loss", "recurrence"]
