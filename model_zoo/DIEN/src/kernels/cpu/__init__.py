"""Kernels in C++ for the CPU, over packed rows; compiled on first use."""

from .auxiliary import next_behaviour_loss
from .gru import recurrence
from .layout import KINDS
from .native_attention import attention_scores, candidate_scores
from .native_candidates import evolve_candidates
from .native_dropout import dropout_masks
from .native_scorer import NativeScorer

__all__ = [
    "KINDS",
    "NativeScorer",
    "attention_scores",
    "candidate_scores",
    "dropout_masks",
    "evolve_candidates",
    "next_behaviour_loss",
    "recurrence",
]
