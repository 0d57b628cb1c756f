"""The recurrence of DIEN as one operator: GRU, AIGRU, AGRU and AUGRU, over packed rows, in and out with a state.

`reference` has the equations; the other backends compute the same, faster.
"""

import math

import torch
from torch import Tensor, nn

from .kernels.backends import EVOLVE_CANDIDATES, RECURRENCE, check_kind, choose
from .kernels.reference import KINDS
from .layers.packing import Packing


def attentional_gru(
    inputs: Tensor,
    packing: Packing,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    attention: Tensor | None = None,
    state: Tensor | None = None,
    kind: str = "AUGRU",
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Runs an (attentional) GRU over packed rows.

    Gates are stacked as [u, r, candidate]; the update gate u weighs the *new* candidate, as in the paper
    (`torch.nn.GRU` has z = 1 - u).

    Args:
        inputs: (N, I).
        packing: of B rows with N steps in all.
        weight_ih: (3H, I). weight_hh: (3H, H). bias: (3H,).
        attention: (N,), not used by the plain GRU.
        state: (B, H), where the rows stand before the first step; zeros if None.
        kind: one of `kernels.reference.KINDS`; `AUGRU-tensorflow` is that of the authors' program.
        backend: one of `kernels.backends.BACKENDS`, or `auto`: the fastest that this machine has for these tensors.

    Returns:
        states: (N, H). final: (B, H), the state after each row's last step; `state` where it has none.

    Raises:
        ValueError: unknown kind or backend, a backend without the kind, or no attention for a kind that needs it.
        RuntimeError: the machine lacks what the backend needs.
    """
    recurrence = choose(RECURRENCE, backend, inputs, kind, weight_hh.size(1))
    if attention is None:
        if KINDS[kind].attends:
            raise ValueError(f"kind={kind!r} needs attention")
        attention = inputs.new_ones(len(inputs))
    if state is None:
        state = inputs.new_zeros(len(packing.lengths), weight_hh.size(1))
    if not len(inputs):
        return inputs.new_zeros(0, state.size(1)), state
    return recurrence(inputs, packing, attention, state, weight_ih, weight_hh, bias, kind)


class AttentionalGRU(nn.Module):
    """The operator with its weights.

    Args:
        input_size: I. hidden_size: H. kind, backend: as in `attentional_gru`.

    Raises:
        ValueError: unknown kind, or a backend without it.
    """

    def __init__(self, input_size: int, hidden_size: int, kind: str = "AUGRU", backend: str = "auto") -> None:
        super().__init__()
        check_kind(backend, kind)
        self.kind = kind
        self.backend = backend
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        bound = 1 / math.sqrt(hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, inputs: Tensor, packing: Packing, attention: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Shapes as in `attentional_gru`."""
        return attentional_gru(
            inputs, packing, self.weight_ih, self.weight_hh, self.bias, attention, state, self.kind, self.backend
        )

    @torch.no_grad()
    def for_candidates(self, inputs: Tensor, attention: Tensor | None, state: Tensor) -> Tensor:
        """Runs the same inputs for each of many candidates, without gradients.

        Args:
            inputs: (T, I). attention: (T, B), not used by the plain GRU.
            state: (B, H), where the candidates stand before the first step.

        Returns:
            (B, H), the states after the last step.
        """
        if attention is None:
            attention = inputs.new_ones(len(inputs), len(state))
        evolve = choose(EVOLVE_CANDIDATES, self.backend, inputs, self.kind, self.weight_hh.size(1))
        return evolve(inputs, attention, state, self.weight_ih, self.weight_hh, self.bias, self.kind)

    def update_gate(self, inputs: Tensor, packing: Packing, states: Tensor, attention: Tensor | None = None) -> Tensor:
        """The gate u of (2), before attention acts on it; AGRU, which has none, does not use what (2) gives there.

        Args:
            inputs, packing, attention: as the recurrence ran on them, from zeros on.
            states: (N, H), which it led to.

        Returns:
            (N, H).
        """
        if KINDS[self.kind].scales_input:
            assert attention is not None
            inputs = attention.unsqueeze(1) * inputs  # (9)
        begins = (packing.place == 0).unsqueeze(1)
        previous = states.roll(1, dims=0).masked_fill(begins, 0)
        W_u, U_u, b_u = self.weight_ih.chunk(3)[0], self.weight_hh.chunk(3)[0], self.bias.chunk(3)[0]
        return torch.sigmoid(inputs @ W_u.T + previous @ U_u.T + b_u)
