"""One step of the equations and its derivative, on the tiles that a kernel holds."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(z):
    """Return the sigmoid of z."""
    return 1 / (1 + tl.exp(-z))


@triton.jit
def tanh(z):
    """Return the hyperbolic tangent of z."""
    # There is no tl.tanh, and the interpreter has no libdevice. The error is at most 1e-7 in float32.
    return 2 * sigmoid(2 * z) - 1


INTERPRETED = tl.constexpr(not isinstance(sigmoid, triton.JITFunction))


@triton.jit
def read(base, index, mask):
    """Return the values at `index` from `base`; zero where `mask` is False.

    Without a `base` all values are zero.
    """
    if base is None:
        return tl.zeros(mask.shape, tl.float32)
    else:
        return tl.load(base + index, mask, other=0)


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """Return `a` times `b`, with `a` cast to b's dtype."""
    a = a.to(b.dtype)
    if INTERPRETED and b.dtype == tl.bfloat16:  # numpy lacks bfloat16: the bits would be multiplied
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def scaled(u, attention, KIND: tl.constexpr):
    """Return the weight of the candidate: (5), (10) of AGRU, or (11) of AUGRU.

    `AUGRU-tensorflow` has the weight of the authors' program. AGRU does not use `u`, and the GRU does not use
    `attention` (rows, 1).
    """
    if KIND == "AGRU":
        return attention
    elif KIND == "AUGRU":
        return attention * u
    elif KIND == "AUGRU-tensorflow":
        return attention + u - attention * u
    else:
        return u


@triton.jit
def derivatives(dh, u, r, candidate, q, h, attention, KIND: tl.constexpr):
    """Return the gradients of one step, given the gradient of its resulting state.

    Args:
        dh: (rows, columns), gradient of the state after the step.
        u: (rows, columns), update gate.
        r: (rows, columns), reset gate.
        candidate: (rows, columns).
        q: (rows, columns), U_h h.
        h: (rows, columns), the state before the step.
        attention: (rows, 1).
        KIND: kind of the recurrence.

    Returns:
        Gradients of the pre-activations of u, r and the candidate, of q, of h except through the matrices, and of
        attention, column by column.
    """
    gate = scaled(u, attention, KIND)
    dgate = dh * (candidate - h)
    slope = u * (1 - u)
    if KIND == "AGRU":
        du = tl.zeros_like(dh)
        dattention = dgate
    elif KIND == "AUGRU":
        du = dgate * attention * slope
        dattention = dgate * u
    elif KIND == "AUGRU-tensorflow":
        du = dgate * (1 - attention) * slope
        dattention = dgate * (1 - u)
    else:
        du = dgate * slope
        dattention = tl.zeros_like(dh)
    dcandidate = dh * gate * (1 - candidate * candidate)
    return du, dcandidate * q * r * (1 - r), dcandidate, dcandidate * r, dh * (1 - gate), dattention
