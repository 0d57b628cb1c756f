from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_mlp import MaskedMLP

SCORERS = ("net", "inner_product")


class AuxiliaryLoss(nn.Module):
    """The next behaviour supervises each interest state, eq. (6):

        L_aux = - mean_t [ log σ(h_t, e_{t+1}) + log(1 - σ(h_t, ê_{t+1})) ]

    over every step whose next behaviour is real and has a negative (the paper sums over steps and divides by
    sequences). With several negatives a step their terms are averaged.

    The authors' net starts with a batch normalisation that TensorFlow leaves in inference mode, so that it never
    normalises: an affine map that the first layer here absorbs. Their two-way softmax is the sigmoid of a difference.

    Args:
        interest_size: H. behaviour_size: D.
        scorer: ``net`` on [h, e] (the authors' program) or ``inner_product`` (the paper's text; needs H = D).
        hidden_units, activation, dropout: of the net.

    Raises:
        ValueError: unknown scorer, or an inner product of unequal sizes.
    """

    def __init__(self, interest_size: int, behaviour_size: int, scorer: str = "net",
                 hidden_units: Sequence[int] = (100, 50), activation: str | Sequence[str] = "ReLU",
                 dropout: float = 0.0) -> None:
        super().__init__()
        if scorer not in SCORERS:
            raise ValueError(f"aux_scorer={scorer!r} is unknown; allowed: {', '.join(SCORERS)}")
        if scorer == "inner_product" and interest_size != behaviour_size:
            raise ValueError(f"aux_scorer='inner_product' needs gru_hidden_size={interest_size} "
                             f"to be the behaviour's size {behaviour_size}")
        self.net = MaskedMLP(interest_size + behaviour_size, hidden_units, activation, dropout) \
            if scorer == "net" else None

    def forward(self, interests: Tensor, behaviours: Tensor, mask: Tensor, negatives: Tensor,
                has_negative: Tensor) -> Tensor:
        """Loss of one batch of sequences.

        Args:
            interests: (B, T, H), states h_t. behaviours: (B, T, D), e_t.
            mask: (B, T) bool, real steps (post-padded).
            negatives: (B, T, K, D), non-clicked behaviours to set against e_t.
            has_negative: (B, T, K) bool.

        Returns:
            A scalar; 0 where no step counts.
        """
        h, e, e_hat = interests[:, :-1], behaviours[:, 1:], negatives[:, 1:]
        present = has_negative[:, 1:] & mask[:, 1:, None]
        counts = present.any(dim=-1)
        positive = F.softplus(-self._logit(h, e, counts))
        negative = F.softplus(self._logit(h.unsqueeze(2).expand(*e_hat.shape[:3], -1), e_hat, present))
        negative = negative.masked_fill(~present, 0).sum(-1) / present.sum(-1).clamp(min=1)
        return (positive + negative).masked_fill(~counts, 0).sum() / counts.sum().clamp(min=1)

    def _logit(self, h: Tensor, e: Tensor, mask: Tensor) -> Tensor:
        if self.net is None:
            return (h * e).sum(-1)
        return self.net(torch.cat([h, e], dim=-1), mask)
