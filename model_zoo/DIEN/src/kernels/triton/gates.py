"""One step of the equations and its derivative, on the tiles that a kernel holds."""

import triton
import triton.language as tl


@triton.jit
def sigmoid(z):
    return 1 / (1 + tl.exp(-z))


@triton.jit
def tanh(z):
    # There is no tl.tanh, and the interpreter has no libdevice. Off by 1e-7 at most in float32.
    return 2 * sigmoid(2 * z) - 1


INTERPRETED = tl.constexpr(not isinstance(sigmoid, triton.JITFunction))


@triton.jit
def read(base, index, mask):
    """What lies at `index` from `base`; zero where `mask` is False, or if there is no `base`."""
    if base is None:
        return tl.zeros(mask.shape, tl.float32)
    else:
        return tl.load(base + index, mask, other=0)


@triton.jit
def product(a, b, PRECISION: tl.constexpr):
    """`a` times `b`, as numbers of b's type."""
    a = a.to(b.dtype)
    if INTERPRETED and b.dtype == tl.bfloat16:  # numpy has no such numbers: their bits would be multiplied
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, input_precision=PRECISION)


@triton.jit
def scaled(u, attention, KIND: tl.constexpr):
    """The gate that weighs the candidate: (5) of the paper, (10) of AGRU, (11) of AUGRU, that of its authors' program.

    `u` is not used by AGRU, `attention` (rows, 1) not by the GRU.
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
    """Of one step, given the gradient of the state that it led to.

    Args:
        dh, u, r, candidate: (rows, columns). q: U_h h. h: the state before the step. attention: (rows, 1).

    Returns:
        Gradients of the pre-activations of u, r and the candidate, of q, of h where no matrix comes in between, and of
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
