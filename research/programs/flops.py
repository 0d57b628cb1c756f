"""Lower bound of the arithmetic in a training step of DIEN."""

from benchmarks.synthetic_batches import Sizes


def behaviour_flops(sizes: Sizes, auxiliary: bool) -> int:
    """Return the FLOPs of a training step per real behaviour.

    A multiplication and an addition of a matrix product are 2; all else (gates, activations, softmax, optimizer) is not
    counted. D is the size of a behaviour, H of a state (H = D here). Forward:

        both GRU layers           2 · 3H (D + H) + 2 · 3H (H + H)
        attention unit, a1-a2-1   2 (2 H a1 + a1 a2 + a2)
        auxiliary net, n1-n2-1    2 (H n1 + 2 (D n1 + n1 n2 + n2))

    The first layer of the unit on [q, h, q-h, q*h] is (W1 + W3) q + (W2 - W3) h + W4 (q*h), whose first term is a
    row's; that of the net on [h, e] and [h, ê] has its term of h once. A backward pass has two products of the size of
    each one, for its input and for its weights: 3 times the forward pass in all.
    """
    d = h = sizes.behaviour
    a1, a2 = sizes.attention_units
    n1, n2 = sizes.aux_units
    forward = 2 * 3 * h * (d + h) + 2 * 3 * h * (h + h)
    forward += 2 * (2 * h * a1 + a1 * a2 + a2)
    if auxiliary:
        forward += 2 * (h * n1 + 2 * (d * n1 + n1 * n2 + n2))
    return 3 * forward


def row_flops(sizes: Sizes, sum_pooling: bool = False) -> int:
    """Return FLOPs of a training step per row: attention to the target, and the MLP.

    The target's term in the attention unit is H a1. The MLP is on h' (H), e_a (D) and the context, and with
    `enable_sum_pooling` on Σe and e_a * Σe (2 D).
    """
    d = h = sizes.behaviour
    m1, m2 = sizes.mlp_units
    features = h + d + sizes.embedding + 2 * d * sum_pooling
    return 3 * 2 * (h * sizes.attention_units[0] + features * m1 + m1 * m2 + m2)


def step_flops(sizes: Sizes, behaviours: int, rows: int, auxiliary: bool = True) -> int:
    """Return FLOPs of the training step on `rows` with `behaviours` in all."""
    return behaviours * behaviour_flops(sizes, auxiliary) + rows * row_flops(sizes)
