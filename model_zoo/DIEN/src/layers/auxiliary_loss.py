"""Supervision of the interest states by the next behaviour: equation (6) of the DIEN paper."""

from collections.abc import Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from .backends import NEXT_BEHAVIOUR_LOSS, choose
from .packing import Packing
from .step_mlp import StepMLP

Scorer = Literal["net", "inner_product"]
SCORERS = get_args(Scorer)


class AuxiliaryLoss(nn.Module):
    """The next behaviour supervises each interest state, eq. (6):

        L_aux = - mean_t [ log σ(h_t, e_{t+1}) + log(1 - σ(h_t, ê_{t+1})) ]

    over every step whose next behaviour is real and has a negative (the paper sums over steps and divides by
    sequences). With several negatives a step their terms are averaged.

    The authors' net starts with a batch normalisation that TensorFlow leaves in inference mode, so that it never
    normalises: an affine map that the first layer here absorbs. Their two-way softmax is the sigmoid of a difference.

    Args:
        interest_size: H. behaviour_size: D.
        scorer: `net` on [h, e] (the authors' program) or `inner_product` (the paper's text; needs H = D).
        hidden_units, activation, dropout: of the net.
        backend: as of the recurrence; `compiled` has the net with sigmoid or ReLU, all else is torch's.

    Raises:
        ValueError: unknown scorer, or an inner product of unequal sizes.
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
        loss = choose(NEXT_BEHAVIOUR_LOSS, self.backend, interests)
        return loss(interests, behaviours, packing, negatives, has_negative, self.net)
