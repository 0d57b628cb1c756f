"""DIN's attention unit. Its first layer [W_1, W_2, W_3, W_4] on [q, h, q-h, q*h] is taken apart."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..packing import Packing
from ..step_mlp import StepMLP


def attention_scores(states: Tensor, packing: Packing, query: Tensor, net: StepMLP) -> Tensor:
    """How well each step matches its row's query: the net on [q, h, q-h, q*h].

    Args:
        states: (N, H). packing: of B rows with N steps in all. query: (B, H).
        net: of 4H inputs.

    Returns:
        (N,).
    """
    # (W_1 + W_3) q, once a row, and (W_2 - W_3) h + W_4 (q*h).
    W_1, W_2, W_3, W_4 = net.first.weight.chunk(4, dim=1)
    of_query = packing.spread(F.linear(query, W_1 + W_3, net.first.bias))
    of_step = torch.cat([states, packing.spread(query) * states], dim=1)
    return net.after_first(torch.addmm(of_query, of_step, torch.cat([W_2 - W_3, W_4], dim=1).T))


def candidate_scores(states: Tensor, query: Tensor, net: StepMLP) -> Tensor:
    """How well each of the same steps matches each query.

    Args:
        states: (T, H). query: (B, H). net: as in `attention_scores`.

    Returns:
        (T, B).
    """
    # A step's own weights of q are W_1 + W_3 + W_4 diag(h).
    W_1, W_2, W_3, W_4 = net.first.weight.chunk(4, dim=1)
    of_query = W_1 + W_3 + W_4 * states.unsqueeze(1)
    of_step = F.linear(states, W_2 - W_3, net.first.bias).unsqueeze(1)
    units = torch.baddbmm(of_step, query.expand(len(states), -1, -1), of_query.mT)
    return net.after_first(units.flatten(0, 1)).view(len(states), len(query))
