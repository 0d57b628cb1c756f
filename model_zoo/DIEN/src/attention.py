"""Attention of each behaviour to the target item: equation (8) and other scores."""

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
    """Attention of interest states to the target, a_t = softmax_t(score(h_t, e_a)).

    The score is one of

        bilinear_attention:  h_t W e_a, eq. (8)
        dot_attention:       h_t q,                                 q = e_a
        din_attention:       net([q, h_t, q - h_t, q * h_t]),       q = e_a
        din_dense_attention: net([q, h_t, q - h_t, q * h_t]),       q = PReLU(W e_a + b)

    where net is the attention unit of Deep Interest Network (Zhou et al., KDD 2018). `din_dense_attention` is the score
    of the authors' program; its PReLU(x) = max(0, x) + α min(0, x) has an α for each of the H units, which starts at
    0.1. If H and D differ, dot_attention and din_attention use q = W e_a.

    Args:
        interest_size: H.
        target_size: D.
        attention_type: name of the score.
        hidden_units, activation, dropout: settings of the attention unit.
        use_softmax: False returns the scores without a softmax.
        output_activation: activation of the attention unit's output, before the softmax.
        backend: backend as for the recurrence. `compiled` has the attention unit with sigmoid, ReLU, PReLU and Dice
            and, if no gradients are needed, with tanh; torch computes everything else.

    Raises:
        ValueError: the attention type or activation is unknown.
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
        """Return the attention (N,) of packed interest states.

        Args:
            interests: (N, H).
            target: (B, D).
            packing: packing of B rows with N steps in all.
        """
        query = self.query(target)
        if self.unit is not None:
            scores = choose(ATTENTION_SCORES, self.backend, interests)(interests, packing, query, self.unit)
        else:
            scores = (interests * packing.spread(query)).sum(dim=1)
        scores = scores.to(interests.dtype)  # autocast changes the dtype of the scores
        return packing.softmax(scores) if self.use_softmax else scores

    @torch.no_grad()
    def for_candidates(self, interests: Tensor, targets: Tensor) -> Tensor:
        """Return the attention (T, B) of one row's interests to many targets.

        There are no gradients.

        Args:
            interests: (T, H).
            targets: (B, D).
        """
        queries = self.query(targets)
        if self.unit is not None:
            scores = choose(CANDIDATE_SCORES, self.backend, interests)(interests, queries, self.unit)
        else:
            scores = interests @ queries.T
        scores = scores.to(interests.dtype)  # autocast changes the dtype of the scores
        return scores.softmax(dim=0) if self.use_softmax else scores

    def query(self, target: Tensor) -> Tensor:
        """Return the query q (B, H) of each target (B, D)."""
        return target @ self.weight.T if self.attention_type == "bilinear_attention" else self.project(target)
