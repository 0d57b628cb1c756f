"""Arguments of the recurrence in Triton, its equations, and their comparison."""

import platform

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from model_zoo.DIEN.src.kernels.triton import recurrence

try:
    import triton
except ModuleNotFoundError:
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        raise
    pytest.skip("triton is for Linux on x86_64", allow_module_level=True)

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu" and TorchVersion(triton.__version__) < (3, 7) and TorchVersion(np.__version__) >= (2, 4):
    pytest.skip("triton's interpreter needs numpy < 2.4 before triton 3.7", allow_module_level=True)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 3e-2, torch.float16: 4e-3}
LEAVES = ("x", "attention", "state", "weight_ih", "weight_hh", "bias")


def case(kind, lengths, hidden, inputs=None, dtype=torch.float32, seed=0):
    """Return arguments of ``recurrence``: some attention is 0 or 1.

    Nothing is contiguous.
    """
    g = torch.Generator().manual_seed(seed)
    inputs = inputs or (1, 5, 36, 70)[hidden % 4]
    rows, steps = len(lengths), sum(lengths)
    offsets = torch.tensor([0, *lengths]).cumsum(0).repeat_interleave(2)[::2]
    tensors = {
        "x": torch.randn(inputs, steps, generator=g).t(),
        "attention": (torch.rand(2 * steps, generator=g) * 1.4 - 0.2).clamp(0, 1)[::2],
        "state": torch.randn(hidden, rows, generator=g).t(),
        "weight_ih": torch.randn(inputs, 3 * hidden, generator=g).t() / inputs**0.5,
        "weight_hh": torch.randn(hidden, 3 * hidden, generator=g).t() / hidden**0.5,
        "bias": torch.randn(6 * hidden, generator=g)[::2] / 2,
    }
    return {"offsets": offsets.to(DEVICE), **{n: t.to(DEVICE, dtype) for n, t in tensors.items()}, "kind": kind}


def ragged(rows, steps):
    """Lengths from 0 to ``steps``, both of which occur where there are two rows."""
    some = torch.randint(0, steps + 1, (rows,), generator=torch.Generator().manual_seed(rows))
    return [steps, 0, *some.tolist()][:rows]


def transcription(x, offsets, attention, state, weight_ih, weight_hh, bias, kind):
    """Equations (2)-(5) and (9)-(12), row by row and step by step."""
    W_u, W_r, W_h = weight_ih.chunk(3)
    U_u, U_r, U_h = weight_hh.chunk(3)
    b_u, b_r, b_h = bias.chunk(3)
    states, final = [state[:0]], [state[:0]]
    for row, h in enumerate(state):
        for n in range(int(offsets[row]), int(offsets[row + 1])):
            a, i = attention[n], x[n]
            if kind == "AIGRU":
                i = a * i
            u = torch.sigmoid(W_u @ i + U_u @ h + b_u)
            r = torch.sigmoid(W_r @ i + U_r @ h + b_r)
            candidate = torch.tanh(W_h @ i + r * (U_h @ h) + b_h)
            gate = {"AGRU": a, "AUGRU": a * u, "AUGRU-tensorflow": a + u - a * u}.get(kind, u)
            h = (1 - gate) * h + gate * candidate
            states.append(h.unsqueeze(0))
        final.append(h.unsqueeze(0))
    return torch.cat(states), torch.cat(final)


def outcome(run, arguments, dtype=None):
    """States, final and the gradient of each leaf that there is one of."""
    made = {n: t.detach().to(dtype or t.dtype).requires_grad_() if n in LEAVES else t for n, t in arguments.items()}
    states, final = run(**made)
    g = torch.Generator().manual_seed(9)
    loss = sum((t * torch.randn(t.shape, generator=g).to(t)).sum() for t in (states, final))
    leaves = [n for n in LEAVES if n != "attention" or made["kind"] != "GRU"]
    gradients = torch.autograd.grad(loss, [made[n] for n in leaves], allow_unused=True)
    return {"states": states.detach(), "final": final.detach(), **dict(zip(leaves, gradients, strict=True))}


def check(arguments):
    """Against the transcription in float64."""
    tolerance = TOLERANCE[arguments["x"].dtype]
    expected = outcome(transcription, arguments, torch.float64)
    for name, got in outcome(recurrence, arguments).items():
        right = torch.zeros_like(got, dtype=torch.float64) if expected[name] is None else expected[name]
        assert got.shape == right.shape and got.dtype == arguments["x"].dtype, name
        if got.numel():
            error, bound = (got.double() - right).abs().max().item(), tolerance * max(1, right.abs().max().item())
            assert error <= bound, f"{name}: {error} > {bound}"  # false for NaN, too
