from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .masked_mlp import MaskedMLP

ATTENTION_TYPES = ("bilinear_attention", "dot_attention", "din_attention")


class InterestAttention(nn.Module):
    """How much each interest state matters for the target item: a_t = softmax_t(h_t W e_a), eq. (8).

    ``bilinear_attention`` is the paper's; ``dot_attention`` has no W; ``din_attention`` is the authors' program, DIN's
    unit on [q, h, q-h, q*h]. Where the last two meet sizes that differ, a linear map brings the target to H.

    Args:
        interest_size: H. target_size: D.
        hidden_units, activation, dropout: of DIN's unit.
        use_softmax: False leaves the scores as they are (padding 0).
        output_activation: of DIN's unit, before the softmax.

    Raises:
        ValueError: unknown attention type or activation.
    """

    def __init__(self, interest_size: int, target_size: int, attention_type: str = "bilinear_attention",
                 hidden_units: Sequence[int] = (80, 40), activation: str | Sequence[str] = "Dice",
                 dropout: float = 0.0, use_softmax: bool = True, output_activation: str | None = None) -> None:
        super().__init__()
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
            self.unit = MaskedMLP(4 * interest_size, hidden_units, activation, dropout, output_activation)

    def forward(self, interests: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """interests: (B, T, H), target: (B, D), mask: (B, T) bool. Returns (B, T), zero at padding."""
        scores = self._scores(interests, target, mask)
        if self.use_softmax:
            # The smallest number, not -inf: a row without behaviours must not become NaN.
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return scores.masked_fill(~mask, 0)

    def _scores(self, interests: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        query = target @ self.weight.T if self.attention_type == "bilinear_attention" else self.project(target)
        if self.attention_type == "din_attention":
            q = query.unsqueeze(1).expand_as(interests)
            return self.unit(torch.cat([q, interests, q - interests, q * interests], dim=-1), mask)
        return (interests @ query.unsqueeze(-1)).squeeze(-1)
