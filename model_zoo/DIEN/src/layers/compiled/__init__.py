"""Kernels in C++ for the CPU, over packed rows; compiled on first use."""

from .attention import attention_scores, candidate_scores
from .auxiliary import next_behaviour_loss
from .candidates import evolve_candidates
from .gru import recurrence
from .scorer import NativeScorer

__all__ = [
    "NativeScorer",
    "attention_scores",
    "candidate_scores",
    "evolve_candidates",
    "next_behaviour_loss",
    "recurrence",
]
