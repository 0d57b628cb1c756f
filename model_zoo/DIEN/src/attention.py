"""How much each behaviour matters to the target item: equation (8) of the DIEN paper and other scores."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .kernels.backends import ATTENTION_SCORES, CANDIDATE_SCORES, choose
from .layers.activations import activation as make_activation
from .layers.packing import Packing
from .layers.step_mlp import StepMLP

AttentionType = Literal["bilinear_attention", "dot_attention", "din_attention", "din_dense_attention"]
ATTENTION_TYPES = get_args(AttentionType)


class InterestAttention(nn.Module):
    """How much each interest state matters for the target item, a_t = softmax_t(score(h_t, e_a)).

        bilinear_attention:  h_t W e_a, eq. (8)
        dot_attention:       h_t q,                                 q = e_a
        din_attention:       net([q, h_t, q - h_t, q * h_t]),       q = e_a
        din_dense_attention: net([q, h_t, q - h_t, q * h_t]),       q = PReLU(W e_a + b)

    The net is the unit of Deep Interest Network (Zhou et al., KDD 2018). The last one is the authors' program, whose
    PReLU(x) = max(0, x) + α min(0, x) has an α for each of the H units, which starts at 0.1. Where dot_attention and
    din_attention meet sizes that differ, q = W e_a.

    Args:
        interest_size: H. target_size: D.
        hidden_units, activation, dropout: of DIN's unit.
        use_softmax: False leaves the scores as they are.
        output_activation: of DIN's unit, before the softmax.
        backend: as of the recurrence; `compiled` has DIN's unit with sigmoid or ReLU, and where no gradients are asked
            for with tanh, PReLU and, in evaluation, Dice; all else is torch's.

    Raises:
        ValueError: unknown attention type or activation.
    """

    def __init__(
        self,
        interest_size: int,
        target_size: int,
        attention_type: AttentionType = "bilinear_attention",
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
        elif attention_type == "din_dense_attention":
            self.project: nn.Module = nn.Sequential(
                nn.Linear(target_size, interest_size), make_activation("PReLU", interest_size)
            )
        elif interest_size != target_size:
            self.project = nn.Linear(target_size, interest_size, bias=False)
        else:
            self.project = nn.Identity()
        self.unit = None
        if attention_type in ("din_attention", "din_dense_attention"):
            self.unit = StepMLP(4 * interest_size, hidden_units, activation, dropout, output_activation)

    def forward(self, interests: Tensor, target: Tensor, packing: Packing) -> Tensor:
        """interests: (N, H), target: (B, D), packing: of B rows with N steps in all. Returns (N,)."""
        query = self.query(target)
        if self.unit is not None:
            scores = choose(ATTENTION_SCORES, self.backend, interests)(interests, packing, query, self.unit)
        else:
            scores = (interests * packing.spread(query)).sum(dim=1)
        scores = scores.to(interests.dtype)  # under autocast they have its own
        return packing.softmax(scores) if self.use_softmax else scores

    @torch.no_grad()
    def for_candidates(self, interests: Tensor, targets: Tensor) -> Tensor:
        """Of one row's interests for many targets, without gradients.

        interests: (T, H), targets: (B, D). Returns (T, B).
        """
        queries = self.query(targets)
        if self.unit is not None:
            scores = choose(CANDIDATE_SCORES, self.backend, interests)(interests, queries, self.unit)
        else:
            scores = interests @ queries.T
        scores = scores.to(interests.dtype)  # under autocast they have its own
        return scores.softmax(dim=0) if self.use_softmax else scores

    def query(self, target: Tensor) -> Tensor:
        """q of each target. target: (B, D). Returns (B, H)."""
        return target @ self.weight.T if self.attention_type == "bilinear_attention" else self.project(target)
