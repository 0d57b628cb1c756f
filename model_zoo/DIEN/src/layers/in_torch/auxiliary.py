"""The auxiliary loss over the pairs of states and behaviours that there are."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import across
from ..packing import Packing
from ..step_mlp import StepMLP


def next_behaviour_loss(
    states: Tensor,
    behaviours: Tensor,
    packing: Packing,
    negatives: Tensor,
    has_negative: Tensor,
    net: StepMLP | None,
    weight: Tensor | None = None,
) -> Tensor:
    """The auxiliary loss (6); arguments and result as in `auxiliary_loss.AuxiliaryLoss.forward`.

    Args:
        net: on [h, e]; None for the inner product of h and e.
        weight: (N,), of the step that each behaviour supervises; None: 1.
    """
    following = (has_negative.any(dim=1) & (packing.place > 0)).nonzero().squeeze(1)
    h, e = states.index_select(0, following - 1), behaviours.index_select(0, following)
    e_hat, present = negatives.index_select(0, following), has_negative.index_select(0, following)
    # All pairs that there are, the click first among those of a step.
    pairs = F.pad(present, (1, 0), value=True).flatten().nonzero().squeeze(1)
    choices = 1 + present.size(1)
    step, clicked = torch.div(pairs, choices, rounding_mode="floor"), pairs % choices == 0
    chosen = torch.cat([e.unsqueeze(1), e_hat], dim=1).flatten(0, 1).index_select(0, pairs)
    logits = _logits(h, step, chosen, net)
    weights = torch.where(clicked, 1, 1 / present.sum(1)[step])
    if weight is not None:
        weights = weights * weight.index_select(0, following)[step]
    return (F.softplus(torch.where(clicked, -logits, logits)) * weights).sum() / across.batch().divisor(len(following))


def _logits(h: Tensor, step: Tensor, chosen: Tensor, net: StepMLP | None) -> Tensor:
    """h: (M, H), step: (P,), the h of each pair, chosen: (P, D). Returns (P,)."""
    if net is None:
        return (h.index_select(0, step) * chosen).sum(1)
    # The first layer's part of h is the same for the click and all that stands against it.
    W_h, W_e = net.first.weight.split([h.size(1), chosen.size(1)], dim=1)
    of_h = F.linear(h, W_h, net.first.bias).index_select(0, step)
    return net.after_first(torch.addmm(of_h, chosen, W_e.T))
