"""Kernels for a U that does not fit on chip.

Each step reads U again, tile by tile, from the device's cache. Rows are as in `resident`. The state, and in the
backward pass its gradient, goes from step to step through memory, since a program cannot index a tile in its registers.
"""

# Some versions of Triton type a kernel as a function that never returns.
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

from .gates import derivatives, product, read, scaled, sigmoid, tanh
from .resident import place


@triton.jit
def forward(
    gates,
    kept,
    attention,
    hold,
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
    TILE: tl.constexpr,
):
    """Run all steps; other arguments as in `resident.forward`.

    `hold`, (2, rows, H) of FLOAT, starts with the initial state in its first half; steps read one half and write the
    other. `final`, (rows, H), also starts with the initial state, and is written for rows that have steps.
    """
    row, _, begin, length, longest = place(offsets, order, rows, BLOCK_ROWS)
    for t in range(longest):
        n = begin + t
        running = t < length
        last = (t + 1 == length)[:, None]
        source = hold + (t % 2 * rows + row)[:, None] * H
        target = hold + ((t + 1) % 2 * rows + row)[:, None] * H
        score = read(attention, n, running).to(FLOAT)[:, None]
        for first in range(0, H, TILE):
            j = (first + tl.arange(0, TILE))[None, :]
            here = running[:, None] & (j < H)
            s_u = tl.zeros((BLOCK_ROWS, TILE), FLOAT)
            s_r = tl.zeros((BLOCK_ROWS, TILE), FLOAT)
            q = tl.zeros((BLOCK_ROWS, TILE), FLOAT)
            for start in range(0, H, TILE):
                k = start + tl.arange(0, TILE)
                part = tl.load(source + k[None, :], running[:, None] & (k < H)[None, :], other=0)
                tile = weight_hh + j * H + k[:, None]
                inside = (j < H) & (k < H)[:, None]
                s_u += product(part, tl.load(tile, inside, other=0), PRECISION)
                s_r += product(part, tl.load(tile + H * H, inside, other=0), PRECISION)
                q += product(part, tl.load(tile + 2 * H * H, inside, other=0), PRECISION)
            at = gates + n[:, None] * (3 * H) + j
            u = sigmoid(tl.load(at, here, other=0).to(FLOAT) + s_u)
            r = sigmoid(tl.load(at + H, here, other=0).to(FLOAT) + s_r)
            candidate = tanh(tl.load(at + 2 * H, here, other=0).to(FLOAT) + r * q)
            h = tl.load(source + j, here, other=0)
            after = h + scaled(u, score, KIND) * (candidate - h)
            if kept is not None:
                if KIND != "AGRU":
                    tl.store(at, u, here)
                tl.store(at + H, r, here)
                tl.store(at + 2 * H, candidate, here)
                old = kept + n[:, None] * (2 * H) + j
                tl.store(old, q, here)
                tl.store(old + H, h, here)
            tl.store(target + j, after, here)
            tl.store(states + n[:, None] * H + j, after, here)
            tl.store(final + row[:, None] * H + j, after, here & last)
        tl.debug_barrier()  # the next step reads what other threads have written


@triton.jit
def backward(
    d_states,
    hold,
    gates,
    kept,
    attention,
    weight_hh,
    offsets,
    order,
    d_gates,
    d_attention,
    rows,
    H: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    FLOAT: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    TILE: tl.constexpr,
):
    """Run all steps backwards; other arguments as in `resident.backward`.

    `hold`, (rows, H) of FLOAT, starts as the gradient of `final` and ends as the gradient of the initial state.
    """
    row, _, begin, length, longest = place(offsets, order, rows, BLOCK_ROWS)
    spot = hold + row[:, None] * H
    for back in range(longest):
        t = longest - 1 - back
        n = begin + t
        running = t < length
        a = read(attention, n, running).to(FLOAT)[:, None]
        scores = tl.zeros((BLOCK_ROWS, TILE), FLOAT)
        for first in range(0, H, TILE):
            j = (first + tl.arange(0, TILE))[None, :]
            here = running[:, None] & (j < H)
            at = gates + n[:, None] * (3 * H) + j
            old = kept + n[:, None] * (2 * H) + j
            d_u, d_r, d_h, d_q, through, some_scores = derivatives(
                tl.load(spot + j, here, other=0) + read(d_states, n[:, None] * H + j, here).to(FLOAT),
                tl.load(at, here, other=0).to(FLOAT),
                tl.load(at + H, here, other=0).to(FLOAT),
                tl.load(at + 2 * H, here, other=0).to(FLOAT),
                tl.load(old, here, other=0).to(FLOAT),
                tl.load(old + H, here, other=0).to(FLOAT),
                a,
                KIND,
            )
            out = d_gates + n[:, None] * (4 * H) + j
            tl.store(out, d_q, here)
            tl.store(out + H, d_u, here)
            tl.store(out + 2 * H, d_r, here)
            tl.store(out + 3 * H, d_h, here)
            tl.store(spot + j, through, here)
            scores += some_scores
        if d_attention is not None:
            tl.store(d_attention + n, tl.sum(scores, 1), running)
        tl.debug_barrier()  # the loop below reads what other threads have written
        for first in range(0, H, TILE):
            j = (first + tl.arange(0, TILE))[None, :]
            here = running[:, None] & (j < H)
            dh = tl.load(spot + j, here, other=0)
            for start in range(0, H, TILE):
                k = start + tl.arange(0, TILE)
                some = running[:, None] & (k < H)[None, :]
                out = d_gates + n[:, None] * (4 * H) + k[None, :]
                tile = weight_hh + k[:, None] * H + j
                inside = (j < H) & (k < H)[:, None]
                if KIND != "AGRU":
                    dh += product(tl.load(out + H, some, other=0), tl.load(tile, inside, other=0), PRECISION)
                dh += product(tl.load(out + 2 * H, some, other=0), tl.load(tile + H * H, inside, other=0), PRECISION)
                dh += product(tl.load(out, some, other=0), tl.load(tile + 2 * H * H, inside, other=0), PRECISION)
            tl.store(spot + j, dh, here)
        tl.debug_barrier()
