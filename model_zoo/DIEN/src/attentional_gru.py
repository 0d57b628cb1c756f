"""The recurrence of DIEN as one operator over packed rows, with an initial state.

Its kinds are GRU, AIGRU, AGRU and AUGRU. `reference` has the equations; the other backends compute the same values
faster.
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
    """Run an (attentional) GRU over packed rows.

    Gates are stacked as [u, r, candidate]. The update gate u weights the *new* candidate, as in the paper
    (`torch.nn.GRU` has z = 1 - u).

    Args:
        inputs: (N, I).
        packing: packing of B rows with N steps in all.
        weight_ih: (3H, I).
        weight_hh: (3H, H).
        bias: (3H,).
        attention: (N,); not used by the plain GRU.
        state: (B, H), state of each row before its first step; zeros if None.
        kind: one of `kernels.reference.KINDS`; `AUGRU-tensorflow` has the gate of the authors' program.
        backend: one of `kernels.backends.BACKENDS`, or `auto`: the fastest on this machine for these tensors.

    Returns:
        states: (N, H). final: (B, H), the state after each row's last step; `state` for a row without steps.

    Raises:
        ValueError: the kind or backend is unknown, the backend lacks the kind, or the kind needs attention and has
            none.
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
    """Layer with the weights of `attentional_gru`.

    Args:
        input_size: I.
        hidden_size: H.
        kind, backend: as in `attentional_gru`.

    Raises:
        ValueError: the kind is unknown, or the backend lacks it.
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
        """Return (states, final); shapes as in `attentional_gru`."""
        return attentional_gru(
            inputs, packing, self.weight_ih, self.weight_hh, self.bias, attention, state, self.kind, self.backend
        )

    @torch.no_grad()
    def for_candidates(self, inputs: Tensor, attention: Tensor | None, state: Tensor) -> Tensor:
        """Run equal inputs for each of many candidates, without gradients.

        Args:
            inputs: (T, I).
            attention: (T, B); not used by the plain GRU.
            state: (B, H), state of each candidate before the first step.

        Returns:
            (B, H), the states after the last step.
        """
        if attention is None:
            attention = inputs.new_ones(len(inputs), len(state))
        evolve = choose(EVOLVE_CANDIDATES, self.backend, inputs, self.kind, self.weight_hh.size(1))
        return evolve(inputs, attention, state, self.weight_ih, self.weight_hh, self.bias, self.kind)

    def update_gate(self, inputs: Tensor, packing: Packing, states: Tensor, attention: Tensor | None = None) -> Tensor:
        """Return the gate u of (2), (N, H), before attention acts on it.

        AGRU has no such gate: its recurrence does not use the value.

        Args:
            inputs: (N, I), inputs of the recurrence, which started from zeros.
            packing: packing of N steps.
            states: (N, H), states that the recurrence returned.
            attention: (N,), attention of the recurrence; only needed by AIGRU.
        """
        if KINDS[self.kind].scales_input:
            assert attention is not None
            inputs = attention.unsqueeze(1) * inputs  # (9)
        begins = (packing.place == 0).unsqueeze(1)
        previous = states.roll(1, dims=0).masked_fill(begins, 0)
        W_u, U_u, b_u = self.weight_ih.chunk(3)[0], self.weight_hh.chunk(3)[0], self.bias.chunk(3)[0]
        return torch.sigmoid(inputs @ W_u.T + previous @ U_u.T + b_u)
