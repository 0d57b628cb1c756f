from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import compiled
from .attentional_gru import resolve
from .packing import Packing
from .step_mlp import StepMLP

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
        backend: as of the recurrence; ``compiled`` has the net with sigmoid or ReLU, all else is torch's.

    Raises:
        ValueError: unknown scorer, or an inner product of unequal sizes.
    """

    def __init__(
        self,
        interest_size: int,
        behaviour_size: int,
        scorer: str = "net",
        hidden_units: Sequence[int] = (100, 50),
        activation: str | Sequence[str] = "ReLU",
        dropout: float = 0.0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.backend = backend
        if scorer not in SCORERS:
            raise ValueError(f"aux_scorer={scorer!r} is unknown; allowed: {', '.join(SCORERS)}")
        if scorer == "inner_product" and interest_size != behaviour_size:
            raise ValueError(
                f"aux_scorer='inner_product' needs gru_hidden_size={interest_size} "
                f"to be the behaviour's size {behaviour_size}"
            )
        self.net = (
            StepMLP(interest_size + behaviour_size, hidden_units, activation, dropout) if scorer == "net" else None
        )

    def forward(
        self, interests: Tensor, behaviours: Tensor, packing: Packing, negatives: Tensor, has_negative: Tensor
    ) -> Tensor:
        """Loss of one batch of sequences.

        Args:
            interests: (N, H), states h_t. behaviours: (N, D), e_t. packing: of N steps.
            negatives: (N, K, D), non-clicked behaviours to set against e_t.
            has_negative: (N, K) bool.

        Returns:
            A scalar; 0 where no step counts.
        """
        counts = has_negative.any(dim=1) & (packing.place > 0)
        net = self.net and self.net.plain()
        if net and resolve(self.backend, interests) == "compiled":
            share = counts.to(interests.dtype) / counts.sum().clamp(min=1)
            shares = has_negative * (share / has_negative.sum(dim=1).clamp(min=1)).unsqueeze(1)
            return compiled.next_behaviour_loss(interests, behaviours, negatives, share, shares, *net)
        following = counts.nonzero().squeeze(1)
        h, e = interests.index_select(0, following - 1), behaviours.index_select(0, following)
        e_hat, present = negatives.index_select(0, following), has_negative.index_select(0, following)
        # All pairs that there are, the click first among those of a step.
        pairs = F.pad(present, (1, 0), value=True).flatten().nonzero().squeeze(1)
        choices = 1 + present.size(1)
        step, clicked = torch.div(pairs, choices, rounding_mode="floor"), pairs % choices == 0
        chosen = torch.cat([e.unsqueeze(1), e_hat], dim=1).flatten(0, 1).index_select(0, pairs)
        logits = self._logits(h, step, chosen)
        weights = torch.where(clicked, 1, 1 / present.sum(1)[step])
        return (F.softplus(torch.where(clicked, -logits, logits)) * weights).sum() / max(len(following), 1)

    def _logits(self, h: Tensor, step: Tensor, chosen: Tensor) -> Tensor:
        """h: (M, H), step: (P,), the h of each pair, chosen: (P, D). Returns (P,)."""
        if self.net is None:
            return (h.index_select(0, step) * chosen).sum(1)
        # The first layer's part of h is the same for the click and all that stands against it.
        W_h, W_e = self.net.first.weight.split([h.size(1), chosen.size(1)], dim=1)
        of_h = F.linear(h, W_h, self.net.first.bias).index_select(0, step)
        return self.net.after_first(torch.addmm(of_h, chosen, W_e.T))
