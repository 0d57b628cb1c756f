"""Kernels that keep the state, its gradient and U on chip for all steps of a row.

A program has BLOCK_ROWS rows of similar length, since `order` starts with the longest row, and as many steps as the
longest of these rows. The data that a step reads does not depend on the step before, so it is loaded while that step is
computed.

The forward pass keeps what the backward pass needs: the gates, which replace the projected inputs, U_h h and the old
state. Measured in memory traffic, which costs most, a training step is a sixth more expensive than with recomputed
gates. Recomputing would need a second product per step and a second, transposed copy of U, and then two programs do not
fit on a multiprocessor.
"""

# Some versions of Triton type a kernel as a function that never returns.
# pyright: reportGeneralTypeIssues=false

from typing import Any

import triton
import triton.language as tl

from .gates import derivatives, product, read, scaled, sigmoid, tanh


@triton.jit
def place(offsets, order, rows, BLOCK_ROWS: tl.constexpr) -> Any:
    """Return row, existence, first step and length of a program's rows.

    The last value is the longest length.
    """
    slot = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    there = slot < rows
    row = tl.load(order + slot, there, other=0)
    begin = tl.load(offsets + row, there, other=0)
    length = tl.load(offsets + row + 1, there, other=0) - begin
    return row, there, begin, length, tl.max(length, 0)


@triton.jit
def forward(
    gates,
    kept,
    attention,
    state,
    weight_hh,
    offsets,
    order,
    states,
    final,
    rows,
    H: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Run all steps.

    Args:
        gates: (N, 3H), the projected inputs W x + b; if `kept` is given, u, r and the candidate replace them, except u
            of AGRU, which does not use it.
        kept: None, or (N, 2H) for U_h h and the state before the step.
        attention: (N,), or None for the GRU.
        state: (rows, H).
        weight_hh: (3H, H).
        offsets: (rows + 1,).
        order: (rows,).
        states: (N, H), written.
        final: (rows, H), written.
        rows: number of rows.
        H: size of the state.
        KIND: kind of the recurrence.
        PRECISION: precision of products, an argument of tl.dot.
        FLOAT: dtype of the computation.
        BLOCK_ROWS: rows per program.
        BLOCK_H: H, rounded up to a power of two.
    """
    row, there, begin, length, longest = place(offsets, order, rows, BLOCK_ROWS)
    j = tl.arange(0, BLOCK_H)
    real = (j < H)[None, :]
    square = real & (j < H)[:, None]
    transposed = weight_hh + j[None, :] * H + j[:, None]
    U_u = tl.load(transposed, square, other=0)
    U_r = tl.load(transposed + H * H, square, other=0)
    U_h = tl.load(transposed + 2 * H * H, square, other=0)
    spot = row[:, None] * H + j[None, :]
    h = tl.load(state + spot, there[:, None] & real, other=0).to(FLOAT)

    running = length > 0
    here = running[:, None] & real
    at = gates + begin[:, None] * (3 * H) + j[None, :]
    x_u = tl.load(at, here, other=0)
    x_r = tl.load(at + H, here, other=0)
    x_h = tl.load(at + 2 * H, here, other=0)
    a = read(attention, begin, running)
    for t in range(longest):
        n = begin + t
        next_running = t + 1 < length
        next_here = next_running[:, None] & real
        next_at = at + 3 * H
        next_u = tl.load(next_at, next_here, other=0)
        next_r = tl.load(next_at + H, next_here, other=0)
        next_h = tl.load(next_at + 2 * H, next_here, other=0)
        next_a = read(attention, n + 1, next_running)

        u = sigmoid(x_u.to(FLOAT) + product(h, U_u, PRECISION))
        r = sigmoid(x_r.to(FLOAT) + product(h, U_r, PRECISION))
        q = product(h, U_h, PRECISION)
        candidate = tanh(x_h.to(FLOAT) + r * q)
        after = h + scaled(u, a.to(FLOAT)[:, None], KIND) * (candidate - h)
        if kept is not None:
            if KIND != "AGRU":
                tl.store(at, u, here)
            tl.store(at + H, r, here)
            tl.store(at + 2 * H, candidate, here)
            old = kept + n[:, None] * (2 * H) + j[None, :]
            tl.store(old, q, here)
            tl.store(old + H, h, here)
        tl.store(states + n[:, None] * H + j[None, :], after, here)
        h = tl.where(here, after, h)

        running, here, at = next_running, next_here, next_at
        x_u, x_r, x_h, a = next_u, next_r, next_h, next_a
    tl.store(final + spot, h, there[:, None] & real)


@triton.jit
def backward(
    d_states,
    d_final,
    gates,
    kept,
    attention,
    weight_hh,
    offsets,
    order,
    d_gates,
    d_attention,
    d_state,
    rows,
    H: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """Run all steps, the last one first.

    Args:
        d_states: (N, H) or None.
        d_final: (rows, H).
        gates: as `forward` wrote them.
        kept: as `forward` wrote it.
        attention: as in `forward`.
        weight_hh: as in `forward`.
        offsets: as in `forward`.
        order: as in `forward`.
        d_gates: (N, 4H), written: gradients of U_h h and of the pre-activations of u, r and the candidate; or None.
        d_attention: (N,), written, or None.
        d_state: (rows, H), written.
        rows: as in `forward`.
        H: as in `forward`.
        KIND: as in `forward`.
        PRECISION: as in `forward`.
        FLOAT: as in `forward`.
        BLOCK_ROWS: as in `forward`.
        BLOCK_H: as in `forward`.
    """
    row, there, begin, length, longest = place(offsets, order, rows, BLOCK_ROWS)
    j = tl.arange(0, BLOCK_H)
    real = (j < H)[None, :]
    square = real & (j < H)[:, None]
    plain = weight_hh + j[:, None] * H + j[None, :]
    U_u = tl.load(plain, square, other=0)
    U_r = tl.load(plain + H * H, square, other=0)
    U_h = tl.load(plain + 2 * H * H, square, other=0)
    spot = row[:, None] * H + j[None, :]
    dh = tl.load(d_final + spot, there[:, None] & real, other=0).to(FLOAT)

    n = begin + longest - 1
    running = (length == longest) & (length > 0)
    here = running[:, None] & real
    at = gates + n[:, None] * (3 * H) + j[None, :]
    old = kept + n[:, None] * (2 * H) + j[None, :]
    u = tl.load(at, here, other=0)
    r = tl.load(at + H, here, other=0)
    candidate = tl.load(at + 2 * H, here, other=0)
    q = tl.load(old, here, other=0)
    h = tl.load(old + H, here, other=0)
    a = read(attention, n, running)
    given = read(d_states, n[:, None] * H + j[None, :], here)
    for back in range(longest):
        n = begin + (longest - 1 - back)
        next_running = (n > begin) & (n - begin <= length)
        next_here = next_running[:, None] & real
        at -= 3 * H
        old -= 2 * H
        next_u = tl.load(at, next_here, other=0)
        next_r = tl.load(at + H, next_here, other=0)
        next_candidate = tl.load(at + 2 * H, next_here, other=0)
        next_q = tl.load(old, next_here, other=0)
        next_h = tl.load(old + H, next_here, other=0)
        next_a = read(attention, n - 1, next_running)
        next_given = read(d_states, (n[:, None] - 1) * H + j[None, :], next_here)

        d_u, d_r, d_h, d_q, through, scores = derivatives(
            dh + given.to(FLOAT),
            u.to(FLOAT),
            r.to(FLOAT),
            candidate.to(FLOAT),
            q.to(FLOAT),
            h.to(FLOAT),
            a.to(FLOAT)[:, None],
            KIND,
        )
        before = through + product(d_r, U_r, PRECISION) + product(d_q, U_h, PRECISION)
        if KIND != "AGRU":
            before += product(d_u, U_u, PRECISION)
        if d_gates is not None:
            out = d_gates + n[:, None] * (4 * H) + j[None, :]
            tl.store(out, d_q, here)
            tl.store(out + H, d_u, here)
            tl.store(out + 2 * H, d_r, here)
            tl.store(out + 3 * H, d_h, here)
        if d_attention is not None:
            tl.store(d_attention + n, tl.sum(scores, 1), running)
        dh = tl.where(here, before, dh)

        running, here, a, given = next_running, next_here, next_a, next_given
        u, r, candidate, q, h = next_u, next_r, next_candidate, next_q, next_h
    tl.store(d_state + spot, dh, there[:, None] & real)
