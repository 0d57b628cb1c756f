from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .backends import ATTENTION_SCORES, CANDIDATE_SCORES, choose
from .packing import Packing
from .step_mlp import StepMLP

ATTENTION_TYPES = ("bilinear_attention", "dot_attention", "din_attention")


class InterestAttention(nn.Module):
    """How much each interest state matters for the target item: a_t = softmax_t(h_t W e_a), eq. (8).

    ``bilinear_attention`` is the paper's; ``dot_attention`` has no W; ``din_attention`` is the authors' program, DIN's
    unit on [q, h, q-h, q*h]. Where the last two meet sizes that differ, a linear map brings the target to H.

    Args:
        interest_size: H. target_size: D.
        hidden_units, activation, dropout: of DIN's unit.
        use_softmax: False leaves the scores as they are.
        output_activation: of DIN's unit, before the softmax.
        backend: as of the recurrence; ``compiled`` has DIN's unit with sigmoid or ReLU, all else is torch's.

    Raises:
        ValueError: unknown attention type or activation.
    """

    def __init__(
        self,
        interest_size: int,
        target_size: int,
        attention_type: str = "bilinear_attention",
        hidden_units: Sequence[int] = (80, 40),
        activation: str | Sequence[str] = "Dice",
        dropout: float = 0.0,
        use_softmax: bool = True,
        output_activation: str | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.backend = backend
        if attention_type not in ATTENTION_TYPES:
            raise ValueError(f"attention_type={attention_type!r} is unknown; allowed: {', '.join(ATTENTION_TYPES)}")
        self.attention_type = attention_type
        self.use_softmax = use_softmax
        if attention_type == "bilinear_attention":
            self.weight = nn.Parameter(torch.eye(interest_size, target_size))
        elif interest_size != target_size:
            self.project: nn.Module = nn.Linear(target_size, interest_size, bias=False)
        else:
            self.project = nn.Identity()
        if attention_type == "din_attention":
            self.unit = StepMLP(4 * interest_size, hidden_units, activation, dropout, output_activation)

    def forward(self, interests: Tensor, target: Tensor, packing: Packing) -> Tensor:
        """interests: (N, H), target: (B, D), packing: of B rows with N steps in all. Returns (N,)."""
        query = self._query(target)
        if self.attention_type == "din_attention":
            scores = choose(ATTENTION_SCORES, self.backend, interests)(interests, packing, query, self.unit)
        else:
            scores = (interests * packing.spread(query)).sum(dim=1)
        return packing.softmax(scores) if self.use_softmax else scores

    @torch.no_grad()
    def for_candidates(self, interests: Tensor, targets: Tensor) -> Tensor:
        """Of one row's interests for many targets, without gradients.

        interests: (T, H), targets: (B, D). Returns (T, B).
        """
        queries = self._query(targets)
        if self.attention_type == "din_attention":
            scores = choose(CANDIDATE_SCORES, self.backend, interests)(interests, queries, self.unit)
        else:
            scores = interests @ queries.T
        scores = scores.to(interests.dtype)  # under autocast they have its own
        return scores.softmax(dim=0) if self.use_softmax else scores

    def _query(self, target: Tensor) -> Tensor:
        return target @ self.weight.T if self.attention_type == "bilinear_attention" else self.project(target)
