"""The recurrence of DIEN as one operator: GRU, AIGRU, AGRU and AUGRU, in and out with a state.

``reference`` has the equations; every other module here is a backend with the same signature.
"""

import math

import torch
from torch import Tensor, nn

from . import compiled, dense, packed, reference

KINDS = ("GRU", "AIGRU", "AGRU", "AUGRU", "AUGRU-code")
BACKENDS = {"reference": reference.attentional_gru, "dense": dense.attentional_gru, "packed": packed.attentional_gru,
            "compiled": compiled.attentional_gru}


def attentional_gru(inputs: Tensor, mask: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor,
                    attention: Tensor | None = None, state: Tensor | None = None, kind: str = "AUGRU",
                    backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Runs a (attentional) GRU over post-padded rows.

    Gates are stacked as [u, r, candidate]; the update gate u weighs the *new* candidate, as in the paper
    (``torch.nn.GRU`` has z = 1 - u). Padding may hold anything, NaN too: it reaches neither results nor gradients.

    Args:
        inputs: (B, T, I), real steps first.
        mask: (B, T) bool, True at real steps.
        weight_ih: (3H, I). weight_hh: (3H, H). bias: (3H,).
        attention: (B, T), not used by the plain GRU.
        state: (B, H), where the rows stand before the first step; zeros if None.
        kind: one of ``KINDS``; ``AUGRU-code`` has the sign of the authors' program.
        backend: one of ``BACKENDS``, or ``auto``: ``packed`` on a CPU, ``dense`` elsewhere.

    Returns:
        states: (B, T, H), zero at padding. final: (B, H), the state after each row's last real step.

    Raises:
        ValueError: unknown kind or backend, or no attention for a kind that needs it.
        RuntimeError: ``compiled`` without a C++ compiler.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; allowed: {', '.join(KINDS)}")
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is unknown; allowed: auto, {', '.join(BACKENDS)}")
    if attention is None:
        if kind != "GRU":
            raise ValueError(f"kind={kind!r} needs attention")
        attention = inputs.new_ones(mask.shape)
    if state is None:
        state = inputs.new_zeros(inputs.size(0), weight_hh.size(1))
    if inputs.size(1) == 0:
        return inputs.new_zeros(*mask.shape, state.size(1)), state
    inputs = inputs.masked_fill(~mask.unsqueeze(-1), 0)
    attention = attention.masked_fill(~mask, 0)
    if backend == "auto":
        backend = "packed" if inputs.device.type == "cpu" else "dense"
    return BACKENDS[backend](inputs, attention, mask, state, weight_ih, weight_hh, bias, kind)


class AttentionalGRU(nn.Module):
    """The operator with its weights.

    Args:
        input_size: I. hidden_size: H. kind, backend: as in :func:`attentional_gru`.
    """

    def __init__(self, input_size: int, hidden_size: int, kind: str = "AUGRU", backend: str = "auto") -> None:
        super().__init__()
        self.kind = kind
        self.backend = backend
        self.weight_ih = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(3 * hidden_size))
        bound = 1 / math.sqrt(hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, inputs: Tensor, mask: Tensor, attention: Tensor | None = None,
                state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shapes as in :func:`attentional_gru`."""
        return attentional_gru(inputs, mask, self.weight_ih, self.weight_hh, self.bias, attention, state,
                               self.kind, self.backend)

    def update_gate(self, inputs: Tensor, states: Tensor) -> Tensor:
        """The gate u of (2) before attention acts on it, (B, T, H), from ``inputs`` and the ``states`` they led to."""
        previous = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        W_u, U_u, b_u = self.weight_ih.chunk(3)[0], self.weight_hh.chunk(3)[0], self.bias.chunk(3)[0]
        return torch.sigmoid(inputs @ W_u.T + previous @ U_u.T + b_u)
