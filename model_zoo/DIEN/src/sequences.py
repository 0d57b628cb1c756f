"""What the layers of DIEN hand on about one behaviour sequence; packed rows as in :mod:`.layers.packing`."""

from typing import NamedTuple

from torch import Tensor

from .layers.packing import Packing


class Interests(NamedTuple):
    """What one behaviour sequence tells before any target is known; N real steps of B rows.

    ids: (F, N). behaviours: (N, D), embeddings e_t. packing: where the steps lie. states: (N, H), interest states h_t.
    final: (B, H), the extractor's state after the last behaviour.
    negatives: (N, K, D), embeddings ê_t. valid: (N, K) bool, which of them there are. Both in training with α > 0,
    None otherwise.
    """

    ids: Tensor
    behaviours: Tensor
    packing: Packing
    states: Tensor
    final: Tensor
    negatives: Tensor | None = None
    valid: Tensor | None = None


class Evolution(NamedTuple):
    """How one sequence's interests evolve towards a target.

    attention: (N,); None for the plain GRU. states: (N, H), h'_t. final: (B, H), h'_T.
    """

    attention: Tensor | None
    states: Tensor
    final: Tensor
