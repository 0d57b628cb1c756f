"""The recurrences as the torch operators `dien::extract` and `dien::evolve`.

`torch.export` keeps these operators. They are for inference: they have no gradients, and run on the fastest backend of
the machine. Rows are padded, the real steps first, in the order of time.
"""

import torch
from torch import Tensor

from .attentional_gru import attentional_gru
from .kernels.backends import EVOLVE_CANDIDATES, choose
from .layers.packing import Packing

_KIND = {"AUGRU-code": "AUGRU-tensorflow"}
"""Name of a kind in files that were exported when `augru_gate` was `augru_sign` -> its name now."""


@torch.library.custom_op("dien::extract", mutates_args=())
def extract(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    """Extract the interests, (2)-(5).

    Args:
        inputs: (T, B, D).
        lengths: (B,) int64, real steps of each row.
        weight_ih: as in `attentional_gru.attentional_gru`.
        weight_hh: as in `attentional_gru.attentional_gru`.
        bias: as in `attentional_gru.attentional_gru`.

    Returns:
        (T, B, H), zero beyond the end of a row.
    """
    packing = Packing.of_lengths(lengths)
    steps = packing.place, packing.row
    states, _ = attentional_gru(inputs[steps], packing, weight_ih, weight_hh, bias, kind="GRU")
    padded = inputs.new_zeros(*inputs.shape[:2], weight_hh.size(1))
    padded[steps] = states
    return padded


@extract.register_fake
def _(inputs: Tensor, lengths: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor) -> Tensor:
    return inputs.new_empty(inputs.size(0), inputs.size(1), weight_hh.size(1))


@torch.library.custom_op("dien::evolve", mutates_args=())
def evolve(
    states: Tensor,
    lengths: Tensor,
    row: Tensor,
    attention: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> Tensor:
    """Evolve the interests of B users towards N candidates, (9)-(12).

    Args:
        states: (T, B, H).
        lengths: (B,) int64, real steps of each user.
        row: (N,) int64, the user of each candidate.
        attention: (T, N); not used by the plain GRU.
        weight_ih: as in `attentional_gru.attentional_gru`.
        weight_hh: as in `attentional_gru.attentional_gru`.
        bias: as in `attentional_gru.attentional_gru`.
        kind: as in `attentional_gru.attentional_gru`.

    Returns:
        (N, H), the states after the last real step; zero for a user without steps.
    """
    weights, kind = (weight_ih, weight_hh, bias), _KIND.get(kind, kind)
    if len(lengths) == 1:
        steps = int(lengths)
        inputs, start = states[:steps, 0].contiguous(), states.new_zeros(len(row), weight_hh.size(1))
        evolve_candidates = choose(EVOLVE_CANDIDATES, "auto", states, kind, weight_hh.size(1))
        return evolve_candidates(inputs, attention[:steps], start, *weights, kind)
    packing = Packing.of_lengths(lengths[row])
    inputs = states[packing.place, row[packing.row]]
    return attentional_gru(inputs, packing, *weights, attention[packing.place, packing.row], kind=kind)[1]


@evolve.register_fake
def _(
    states: Tensor,
    lengths: Tensor,
    row: Tensor,
    attention: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> Tensor:
    return states.new_empty(row.size(0), weight_hh.size(1))
