"""Recurrence as torch operators, for torch.compile and autograd."""

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from . import kernel_launch

# A process may import two copies of this package under two names, but has only one operator per name.
_NAMESPACE = __name__.replace(".", "_")


@custom_op(f"{_NAMESPACE}::forward", mutates_args=())
def forward(
    x: Tensor,
    offsets: Tensor,
    attention: Tensor | None,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Run the recurrence without AIGRU; arguments as in `function.recurrence`.

    `keep` makes it return what the backward pass needs.

    Returns:
        states: (N, H). final: (B, H). gates: (N, 3H), kept: (N, 2H) and order: (B,), as in the kernels; the first two
            are empty unless `keep` is set.
    """
    steps, hidden = len(x), state.size(1)
    attention = None if attention is None else attention.contiguous()
    offsets = offsets.contiguous()
    order = offsets.diff().argsort(descending=True, stable=True)
    gates = torch.addmm(bias, x, weight_ih.t())
    kept = x.new_empty(steps, 2 * hidden) if keep else None
    states, final = kernel_launch.forward(
        gates, kept, attention, state.contiguous(), weight_hh.contiguous(), offsets, order, kind
    )
    return states, final, gates if keep else x.new_empty(0), x.new_empty(0) if kept is None else kept, order


@forward.register_fake
def _(
    x: Tensor,
    offsets: Tensor,
    attention: Tensor | None,
    state: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor,
    kind: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    steps, (rows, hidden) = x.size(0), state.shape
    return (
        x.new_empty(steps, hidden),
        x.new_empty(rows, hidden),
        x.new_empty((steps, 3 * hidden) if keep else 0),
        x.new_empty((steps, 2 * hidden) if keep else 0),
        offsets.new_empty(rows),
    )


@custom_op(f"{_NAMESPACE}::backward", mutates_args=())
def backward(
    d_states: Tensor | None,
    d_final: Tensor | None,
    gates: Tensor,
    kept: Tensor,
    attention: Tensor | None,
    weight_hh: Tensor,
    offsets: Tensor,
    order: Tensor,
    kind: str,
    wants_gates: bool,
    wants_attention: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients of what the loop reads, given gradients of its results.

    Returns:
        d_gates: (N, 4H), of U_h h and of the pre-activations of u, r and the candidate. d_attention: (N,). d_state: (B,
            H). The first two are empty if they are not wanted.
    """
    hidden = weight_hh.size(1)
    d_states = None if d_states is None else d_states.contiguous()
    d_final = gates.new_zeros(len(order), hidden) if d_final is None else d_final.contiguous()
    attention = None if attention is None else attention.contiguous()
    d_gates, d_attention, d_state = kernel_launch.backward(
        d_states,
        d_final,
        gates,
        kept,
        attention,
        weight_hh.contiguous(),
        offsets.contiguous(),
        order,
        kind,
        wants_gates,
        wants_attention,
    )
    return (
        gates.new_empty(0, 4 * hidden) if d_gates is None else d_gates,
        gates.new_empty(0) if d_attention is None else d_attention,
        d_state,
    )


@backward.register_fake
def _(
    d_states: Tensor | None,
    d_final: Tensor | None,
    gates: Tensor,
    kept: Tensor,
    attention: Tensor | None,
    weight_hh: Tensor,
    offsets: Tensor,
    order: Tensor,
    kind: str,
    wants_gates: bool,
    wants_attention: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    steps, hidden = gates.size(0), weight_hh.size(1)
    return (
        gates.new_empty(steps if wants_gates else 0, 4 * hidden),
        gates.new_empty(steps if wants_attention else 0),
        gates.new_empty(order.size(0), hidden),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, offsets, attention, _, weight_ih, weight_hh, _, ctx.kind, _ = inputs
    _, _, gates, kept, order = output
    ctx.mark_non_differentiable(gates, kept, order)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, offsets, attention, weight_ih, weight_hh, gates, kept, order)


def _gradients(ctx: Any, d_states: Tensor | None, d_final: Tensor | None, *unused: None) -> tuple[Tensor | None, ...]:
    x, offsets, attention, weight_ih, weight_hh, gates, kept, order = ctx.saved_tensors
    wants_x, _, wants_attention, wants_state, wants_ih, wants_hh, wants_bias, *_ = ctx.needs_input_grad
    d_gates, d_attention, d_state = backward(
        d_states,
        d_final,
        gates,
        kept,
        attention,
        weight_hh,
        offsets,
        order,
        ctx.kind,
        wants_x or wants_ih or wants_hh or wants_bias,
        wants_attention,
    )
    hidden = weight_hh.size(1)
    d_projected, d_products = d_gates[:, hidden:], d_gates[:, : 3 * hidden]
    return (
        d_projected @ weight_ih if wants_x else None,
        None,
        d_attention if wants_attention else None,
        d_state if wants_state else None,
        d_projected.t() @ x if wants_ih else None,
        # U_h h comes first in d_gates, so that its rows and those of the gates are contiguous; in weight_hh it is the
        # last.
        (d_products.t() @ kept[:, hidden:]).roll(-hidden, 0) if wants_hh else None,
        d_projected.sum(0) if wants_bias else None,
        None,
        None,
    )


def _refuse(ctx: Any, *gradients: Tensor) -> None:
    raise RuntimeError("The recurrence's gradient is written by hand: autograd cannot differentiate twice through it")


forward.register_autograd(_gradients, setup_context=_save)
backward.register_autograd(_refuse)
