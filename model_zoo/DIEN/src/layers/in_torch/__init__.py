"""Every operation in PyTorch, for every device."""

from .attention import attention_scores, candidate_scores
from .auxiliary import next_behaviour_loss
from .recurrence import evolve_candidates, recurrence

__all__ = ["attention_scores", "candidate_scores", "evolve_candidates", "next_behaviour_loss", "recurrence"]
