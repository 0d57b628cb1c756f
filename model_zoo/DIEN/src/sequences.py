"""What is known of one behaviour sequence, step by step; packed rows as in `layers.packing`."""

from typing import NamedTuple

from torch import Tensor

from .layers.packing import Packing


class Behaviours(NamedTuple):
    """The real steps of B rows, N in all.

    embedded: (N, D), e_t. packing: where the steps lie.
    negatives: (N, K, D), ê_t; None where none were drawn. valid: (N, K) bool, which of them are negatives.
    """

    embedded: Tensor
    packing: Packing
    negatives: Tensor | None = None
    valid: Tensor | None = None

    def sum(self) -> Tensor:
        """Σe_t, (B, D)."""
        return self.packing.sum(self.embedded)


class Interests(NamedTuple):
    """What the behaviours tell before any target is known.

    behaviours: that they come from. states: (N, H), interest states h_t. final: (B, H), the extractor's state after the
    last behaviour.
    """

    behaviours: Behaviours
    states: Tensor
    final: Tensor


class Evolution(NamedTuple):
    """How the interests evolve towards a target.

    attention: (N,); None for the plain GRU. states: (N, H), h'_t. final: (B, H), h'_T.
    """

    attention: Tensor | None
    states: Tensor
    final: Tensor
