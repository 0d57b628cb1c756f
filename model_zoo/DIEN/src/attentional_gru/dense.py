"""PyTorch backend over padded rows: inputs projected for all steps at once, the plain GRU by torch's own kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor


def attentional_gru(inputs: Tensor, attention: Tensor, mask: Tensor, state: Tensor,
                    weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """Arguments and results as in :func:`attentional_gru.attentional_gru`."""
    if kind in ("GRU", "AIGRU"):
        if kind == "AIGRU":
            inputs = inputs * attention.unsqueeze(-1)
        return _gru(inputs, mask, state, weight_ih, weight_hh, bias)
    return _gated(inputs, attention, mask, state, weight_ih, weight_hh, bias, kind)


def _gru(inputs: Tensor, mask: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor,
         bias: Tensor) -> tuple[Tensor, Tensor]:
    # torch orders the gates (r, z, n) and its z keeps the old state: z = 1 - u = sigmoid(-pre-activation of u).
    def torch_gates(weight: Tensor) -> Tensor:
        u, r, h = weight.chunk(3)
        return torch.cat([r, -u, h]).flatten()

    sizes = [weight_ih.numel(), weight_hh.numel(), bias.numel(), bias.numel()]
    parts = [torch_gates(weight_ih), torch_gates(weight_hh), torch_gates(bias), torch.zeros_like(bias)]
    w_ih, w_hh, b_ih, b_hh = torch.cat(parts).split(sizes)  # one buffer: cuDNN takes it as it lies
    params = [w_ih.view_as(weight_ih), w_hh.view_as(weight_hh), b_ih, b_hh]
    states, _ = torch.gru(inputs, state.unsqueeze(0), params, True, 1, 0.0, torch.is_grad_enabled(), False, True)
    lengths = mask.sum(dim=1)
    last = (lengths - 1).clamp(min=0).view(-1, 1, 1).expand(-1, 1, state.size(1))
    final = torch.where(lengths.unsqueeze(1) > 0, states.gather(1, last).squeeze(1), state)
    return states.masked_fill(~mask.unsqueeze(-1), 0), final


def _gated(inputs: Tensor, attention: Tensor, mask: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor,
           bias: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    size = state.size(1)
    projected = F.linear(inputs, weight_ih, bias).transpose(0, 1).contiguous()
    # a = 0 at padding, so AGRU and AUGRU freeze there by themselves; the authors' sign does not.
    scores = attention.t().unsqueeze(-1)
    real = mask.t().unsqueeze(-1).to(inputs.dtype)
    states = []
    for x, a, m in zip(projected.unbind(), scores.unbind(), real.unbind(), strict=True):
        h = F.linear(state, weight_hh)
        if kind == "AGRU":
            r = torch.sigmoid(x[:, size:2 * size] + h[:, size:2 * size])
            u = a
        else:
            u, r = torch.sigmoid(x[:, :2 * size] + h[:, :2 * size]).chunk(2, dim=1)
            u = a * u if kind == "AUGRU" else m * (a + u - a * u)
        candidate = torch.tanh(torch.addcmul(x[:, 2 * size:], r, h[:, 2 * size:]))
        state = state + u * (candidate - state)
        states.append(state)
    return torch.stack(states, dim=1).masked_fill(~mask.unsqueeze(-1), 0), state
