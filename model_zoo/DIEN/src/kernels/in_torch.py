"""Every operation in PyTorch, for every device.

The recurrence: rows advance together, and rows that have ended leave. Products that do not depend on the state are
computed once over all steps; the loop over time does the rest in place. The backward pass is written by hand: with d
the gradient of a state h', the gradient of a pre-activation is d times a factor of values that the forward pass keeps.

DIN's attention unit: its first layer [W_1, W_2, W_3, W_4] on [q, h, q-h, q*h] is split into products with q and h.

The auxiliary loss: computed only over the existing pairs of states and behaviours.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ..layers import batch_scope
from ..layers.packing import ByTime, Packing
from ..layers.step_mlp import StepMLP


class Gate(NamedTuple):
    """Weight of the candidate, for update gate u and attention a; its derivatives."""

    value: Callable[[Tensor, Tensor], Tensor]
    of_update_gate: Callable[[Tensor], Tensor | int]
    of_attention: Callable[[Tensor], Tensor | int]


_GRU = Gate(lambda u, a: u, lambda a: 1, lambda u: 0)
GATES = {
    "GRU": _GRU,
    "AIGRU": _GRU,  # (9): attention scales the input
    "AGRU": Gate(lambda u, a: a.expand_as(u), lambda a: 0, lambda u: 1),  # (10)
    "AUGRU": Gate(lambda u, a: a * u, lambda a: a, lambda u: u),  # (11)
    "AUGRU-tensorflow": Gate(lambda u, a: a + u - a * u, lambda a: 1 - a, lambda u: 1 - u),
}
"""Recurrences that differ only in their gate."""


def recurrence(
    inputs: Tensor,
    packing: Packing,
    attention: Tensor,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence; arguments and results as in `attentional_gru`.

    It is differentiable once. Under autocast it computes in the dtype of its weights: the loop works in place, where
    autocast casts nothing.
    """
    if torch.is_autocast_enabled(inputs.device.type):
        inputs, attention, state = (x.to(weight_hh.dtype) for x in (inputs, attention, state))
        with torch.autocast(inputs.device.type, enabled=False):
            return recurrence(inputs, packing, attention, state, weight_ih, weight_hh, bias, kind)
    if kind == "AIGRU":
        inputs = inputs * attention.unsqueeze(1)  # (9)
    return _Recurrence.apply(inputs, attention, state, weight_ih, weight_hh, bias, packing.by_time, GATES[kind])


def evolve_candidates(
    inputs: Tensor, attention: Tensor, state: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, kind: str
) -> Tensor:
    """Return final states; arguments as in `AttentionalGRU.for_candidates`."""
    size = state.size(1)
    U_ur, U_h = weight_hh[: 2 * size].T, weight_hh[2 * size :].T
    gate = GATES[kind].value
    for W_i, a in zip(inputs @ weight_ih.T, attention.unsqueeze(2), strict=True):
        x = a * W_i + bias if kind == "AIGRU" else W_i + bias
        u, r = torch.sigmoid(x[..., : 2 * size] + state @ U_ur).chunk(2, dim=1)
        candidate = torch.tanh(x[..., 2 * size :] + r * (state @ U_h))
        state = torch.lerp(state, candidate, gate(u, a))
    return state


class _Recurrence(Function):
    """Recurrence whose (N, ...) tensors are in the order of time.

    The previous state of a step is at most B rows before it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        attention: Tensor,
        state: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        time: ByTime,
        weighs: Gate,
    ) -> tuple[Tensor, Tensor]:
        size = state.size(1)
        x, a = inputs.index_select(0, time.step), attention.index_select(0, time.step).unsqueeze(1)
        gates = torch.addmm(bias[: 2 * size], x, weight_ih[: 2 * size].T)
        candidate = torch.addmm(bias[2 * size :], x, weight_ih[2 * size :].T)
        U_h_h = torch.empty_like(candidate)
        U_ur, U_h = weight_hh[: 2 * size].T.contiguous(), weight_hh[2 * size :].T.contiguous()
        every = state.new_empty(len(state) + len(x), size)  # first the initial states, then the states after each time
        every[: len(state)] = state.index_select(0, time.order)
        for now, before, after in _times(time):
            h, ur, c = every[before], gates[now], candidate[now]
            torch.mm(h, U_h, out=U_h_h[now])
            ur.addmm_(h, U_ur).sigmoid_()
            c.addcmul_(ur[:, size:], U_h_h[now]).tanh_()
            torch.lerp(h, c, weighs.value(ur[:, :size], a[now]), out=every[after])
        final = torch.empty_like(state).index_copy_(0, time.order, every.index_select(0, time.last))
        states = state.new_empty(len(x), size).index_copy_(0, time.step, every[len(state) :])
        ctx.save_for_backward(inputs, attention, weight_ih, weight_hh, gates, candidate, U_h_h, every)
        ctx.time, ctx.weighs = time, weighs
        ctx.set_materialize_grads(False)
        return states, final

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_states: Tensor | None, d_final: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        inputs, attention, weight_ih, weight_hh, gates, candidate, U_h_h, every = ctx.saved_tensors
        time, weighs = ctx.time, ctx.weighs
        size, rows, steps = every.size(1), len(time.order), len(inputs)
        a = attention.index_select(0, time.step).unsqueeze(1)
        u, r = gates[:, :size], gates[:, size:]
        previous = every.index_select(0, time.previous)
        gate = weighs.value(u, a)
        keep = 1 - gate
        of_gate = candidate - previous
        of_candidate = gate * (1 - candidate.square())
        # Gradients of the pre-activations divided by d, [u, r, U_h h]; the loop multiplies them by d.
        d_hidden = torch.empty(steps, 3, size, dtype=every.dtype, device=every.device)
        torch.mul(of_gate * weighs.of_update_gate(a), u * (1 - u), out=d_hidden[:, 0])
        torch.mul(of_candidate * U_h_h, r * (1 - r), out=d_hidden[:, 1])
        torch.mul(of_candidate, r, out=d_hidden[:, 2])
        every_d = torch.zeros_like(candidate) if d_states is None else d_states.index_select(0, time.step)
        d = torch.zeros_like(every[:rows]) if d_final is None else d_final.index_select(0, time.order)
        for now, _, _ in reversed(_times(time)):
            running = d[: now.stop - now.start]
            running.add_(every_d[now])
            every_d[now] = running
            d_hidden[now].mul_(running.unsqueeze(1))
            running.mul_(keep[now]).addmm_(d_hidden[now].flatten(1), weight_hh)
        d_state = torch.empty_like(d).index_copy_(0, time.order, d) if ctx.needs_input_grad[2] else None
        d_attention = None
        if ctx.needs_input_grad[1]:
            d_a = (every_d * of_gate * weighs.of_attention(u)).sum(1)
            d_attention = torch.empty_like(d_a).index_copy_(0, time.step, d_a)
        d_inputs_hidden = d_hidden[:, :2].flatten(1)
        d_candidate = of_candidate.mul_(every_d)
        d_inputs = d_weight_ih = d_weight_hh = d_bias = None
        if ctx.needs_input_grad[0]:
            d_x = torch.addmm(d_candidate @ weight_ih[2 * size :], d_inputs_hidden, weight_ih[: 2 * size])
            d_inputs = torch.empty_like(d_x).index_copy_(0, time.step, d_x)
        if ctx.needs_input_grad[3]:
            x = inputs.index_select(0, time.step)
            d_weight_ih = torch.cat([d_inputs_hidden.T @ x, d_candidate.T @ x])
        if ctx.needs_input_grad[4]:
            d_weight_hh = d_hidden.flatten(1).T @ previous
        if ctx.needs_input_grad[5]:
            d_bias = torch.cat([d_inputs_hidden.sum(0), d_candidate.sum(0)])
        return d_inputs, d_attention, d_state, d_weight_ih, d_weight_hh, d_bias, None, None


def _times(time: ByTime) -> list[tuple[slice, slice, slice]]:
    """Return per time the slices of its steps and of the states before and after.

    The slices of states index the B + N states.
    """
    rows = len(time.order)
    times, step, before = [], 0, 0
    for running in time.running:
        after = rows + step
        times.append((slice(step, step + running), slice(before, before + running), slice(after, after + running)))
        step, before = step + running, after
    return times


def attention_scores(states: Tensor, packing: Packing, query: Tensor, net: StepMLP) -> Tensor:
    """Return how well each step matches its row's query: the net on [q, h, q-h, q*h].

    Args:
        states: (N, H).
        packing: packing of B rows with N steps in all.
        query: (B, H).
        net: network with 4H inputs.

    Returns:
        (N,).
    """
    # The first layer is (W_1 + W_3) q, once per row, and (W_2 - W_3) h + W_4 (q*h).
    W_1, W_2, W_3, W_4 = net.first.weight.chunk(4, dim=1)
    of_query = packing.spread(F.linear(query, W_1 + W_3, net.first.bias))
    of_step = torch.cat([states, packing.spread(query) * states], dim=1)
    units = torch.addmm(of_query, of_step, torch.cat([W_2 - W_3, W_4], dim=1).T)
    return net.after_first(units, net.elements(packing))


def candidate_scores(states: Tensor, query: Tensor, net: StepMLP) -> Tensor:
    """Return how well each of the shared steps matches each query.

    Args:
        states: (T, H).
        query: (B, H).
        net: as in `attention_scores`.

    Returns:
        (T, B).
    """
    # The weights of q at a step are W_1 + W_3 + W_4 diag(h).
    W_1, W_2, W_3, W_4 = net.first.weight.chunk(4, dim=1)
    of_query = W_1 + W_3 + W_4 * states.unsqueeze(1)
    of_step = F.linear(states, W_2 - W_3, net.first.bias).unsqueeze(1)
    units = torch.baddbmm(of_step, query.expand(len(states), -1, -1), of_query.mT)
    return net.after_first(units.flatten(0, 1)).view(len(states), len(query))


def next_behaviour_loss(
    states: Tensor,
    behaviours: Tensor,
    packing: Packing,
    negatives: Tensor,
    has_negative: Tensor,
    net: StepMLP | None,
    weight: Tensor | None = None,
) -> Tensor:
    """Return the auxiliary loss (6), as `AuxiliaryLoss.forward`.

    Args:
        states: (N, H), states h_t.
        behaviours: (N, D), e_t.
        packing: packing of N steps.
        negatives: (N, K, D).
        has_negative: (N, K) bool.
        net: network on [h, e]; None for the inner product of h and e.
        weight: (N,), the weight of the step that each behaviour supervises; None: 1.
    """
    following = (has_negative.any(dim=1) & (packing.place > 0)).nonzero().squeeze(1)
    h, e = states.index_select(0, following - 1), behaviours.index_select(0, following)
    e_hat, present = negatives.index_select(0, following), has_negative.index_select(0, following)
    # The existing pairs; the click is the first pair of each step.
    pairs = F.pad(present, (1, 0), value=True).flatten().nonzero().squeeze(1)
    choices = 1 + present.size(1)
    step, clicked = torch.div(pairs, choices, rounding_mode="floor"), pairs % choices == 0
    chosen = torch.cat([e.unsqueeze(1), e_hat], dim=1).flatten(0, 1).index_select(0, pairs)
    elements = None if net is None else net.elements(packing, choices)
    if elements is not None:
        elements = elements[following][step] + pairs % choices
    logits = _logits(h, step, chosen, net, elements)
    weights = torch.where(clicked, 1, 1 / present.sum(1)[step])
    if weight is not None:
        weights = weights * weight.index_select(0, following)[step]
    terms = F.softplus(torch.where(clicked, -logits, logits)) * weights
    return terms.sum() / batch_scope.batch().divisor(len(following))


def _logits(h: Tensor, step: Tensor, chosen: Tensor, net: StepMLP | None, elements: Tensor | None) -> Tensor:
    """Return the logit of each pair, (P,).

    Args:
        h: (M, H), states.
        step: (P,), index of the state of each pair.
        chosen: (P, D), behaviour of each pair.
        net: network on [h, e]; None for the inner product.
        elements: (P,) int64, element of each pair for masks of dropout, if there is any.
    """
    if net is None:
        return (h.index_select(0, step) * chosen).sum(1)
    # The first layer's product with h is shared by the click and its negatives.
    W_h, W_e = net.first.weight.split([h.size(1), chosen.size(1)], dim=1)
    of_h = F.linear(h, W_h, net.first.bias).index_select(0, step)
    return net.after_first(torch.addmm(of_h, chosen, W_e.T), elements)
