"""Supervision of the interest states by the next behaviour: equation (6)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .kernels.backends import NEXT_BEHAVIOUR_LOSS, choose
from .layers.packing import Packing
from .layers.step_mlp import StepMLP

Scorer = Literal["net", "inner_product"]
SCORERS = get_args(Scorer)
Weighting = Literal["uniform", "target_attention", "newest"]
WEIGHTINGS = get_args(Weighting)


class AuxiliaryLoss(nn.Module):
    """Loss in which the next behaviour supervises each interest state, eq. (6).

            L_aux = - mean_t [ log σ(h_t, e_{t+1}) + log(1 - σ(h_t, ê_{t+1})) ]

    The mean is over every step whose next behaviour is real and has a negative (the paper sums over steps and divides
    by sequences). Terms of several negatives per step are averaged. Steps may have weights, see `relevance`; these
    change only the training.

    The authors' network starts with a batch normalisation that TensorFlow leaves in inference mode, so that it never
    normalises: it is an affine map, which the first layer here absorbs. Their two-way softmax is the sigmoid of a
    difference.

    Args:
        interest_size: H.
        behaviour_size: D.
        scorer: `net` on [h, e] (the authors' program) or `inner_product` (the paper's text; needs H = D).
        hidden_units, activation, dropout: settings of the network.
        backend: backend as for the recurrence; `compiled` has the network with sigmoid, ReLU, PReLU and Dice, torch
            computes everything else.
        weighting: weights of the steps: `uniform`, by `target_attention`, or only the `newest` step of each row: if
            each prefix of a history is a row, each behaviour then supervises once.

    Raises:
        ValueError: the scorer or weighting is unknown, or an inner product has unequal sizes.
    """

    def __init__(
        self,
        interest_size: int,
        behaviour_size: int,
        scorer: Scorer = "net",
        hidden_units: Sequence[int] = (100, 50),
        activation: str | Sequence[str] = "ReLU",
        dropout: float = 0.0,
        backend: str = "auto",
        weighting: Weighting = "uniform",
    ) -> None:
        super().__init__()
        self.backend = backend
        self.weighting = weighting
        if weighting not in WEIGHTINGS:
            raise ValueError(f"aux_loss_weighting={weighting!r} is unknown; allowed: {', '.join(WEIGHTINGS)}")
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
        self,
        interests: Tensor,
        behaviours: Tensor,
        packing: Packing,
        negatives: Tensor,
        has_negative: Tensor,
        attention: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of one batch of sequences, a scalar; 0 if no step counts.

        Args:
            interests: (N, H), states h_t.
            behaviours: (N, D), e_t.
            packing: packing of N steps.
            negatives: (N, K, D), behaviours that were not chosen, to contrast with e_t.
            has_negative: (N, K) bool.
            attention: (N,), a_t of the target, 0 or more; only used by the weighting `target_attention`.

        Raises:
            ValueError: the weighting needs attention and there is none.
        """
        loss = choose(NEXT_BEHAVIOUR_LOSS, self.backend, interests)
        weight = None
        if self.weighting == "newest":
            has_negative = has_negative & (packing.place == packing.spread(packing.lengths) - 1).unsqueeze(1)
        if self.weighting == "target_attention":
            if attention is None:
                raise ValueError("aux_loss_weighting='target_attention' needs the attention of the target")
            weight = relevance(attention, has_negative.any(dim=1), packing)
        return loss(interests, behaviours, packing, negatives, has_negative, self.net, weight)


@torch.no_grad()
def relevance(attention: Tensor, has_negative: Tensor, packing: Packing) -> Tensor:
    """Return how much each behaviour matters to the target when it supervises.

    The term of step t, in which e_{t+1} supervises h_t, has the weight

            w_t = a_{t+1} / mean_s a_{s+1}

    with the mean over the steps of its row that count, so that these weights have the mean 1. The weights have no
    gradient: the loss does not train the attention.

    Args:
        attention: (N,), a_t of (8), 0 or more.
        has_negative: (N,) bool.
        packing: packing of N steps.

    Returns:
        (N,), the weight of the step that each behaviour supervises; 0 for behaviours that do not count.
    """
    counts = has_negative & (packing.place > 0)
    mass = attention * counts
    mean = packing.sum(mass) / packing.sum(counts.to(mass.dtype)).clamp(min=1)
    return mass / packing.spread(mean.clamp(min=torch.finfo(mass.dtype).tiny))
