"""Arguments of the recurrence, and comparison of its results and gradients.

They are compared with the reference.
"""

import heapq
import itertools
import os
import platform
import shutil

import pytest
import torch

from model_zoo.DIEN.src.attentional_gru import attentional_gru
from model_zoo.DIEN.src.kernels.reference import KINDS
from model_zoo.DIEN.src.layers.activations import Dice
from model_zoo.DIEN.src.layers.packing import Packing

COMPILER = next(filter(shutil.which, filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++"))), None)
compiled = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
FAST = [pytest.param("torch"), pytest.param("compiled", marks=compiled)]
"""Backends that are set against the reference."""

NARROW = ("-mno-avx512f", "-march=x86-64") if platform.machine() == "x86_64" else ("-O1",)
"""Flags that leave a machine's widest vectors unused."""

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SIZES = list(
    itertools.product(KINDS, (torch.float32, torch.float64), (1, 2, 33, 1024), (1, 2, 63, 100), (1, 7, 36, 37, 64, 128))
)


def pairwise(every, size=lambda case: 0):
    """Return a few of ``every`` that have each pair of values, small ones first.

    Each one has the most pairs that are missing; an old number of them is a bound of the new one.
    """
    pairs = [_pairs(case) for case in every]
    missing = set().union(*pairs)
    bounds = [(-len(pairs[place]), size(case), place) for place, case in enumerate(every)]
    heapq.heapify(bounds)
    chosen = []
    while missing:
        _, smallness, place = bounds[0]
        now = (-len(pairs[place] & missing), smallness, place)
        heapq.heapreplace(bounds, now)
        if bounds[0] == now:
            chosen.append(every[place])
            missing -= pairs[place]
    return chosen


def _pairs(case):
    return set(itertools.combinations(enumerate(case), 2))


@torch.no_grad()
def as_if_trained(net):
    """Give a net the slopes and statistics of a trained net; return it."""
    for layer in net.layers:
        if isinstance(layer, Dice):
            layer.alpha.normal_()
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.2, 2)
        if isinstance(layer, torch.nn.PReLU):
            layer.weight.normal_()
    return net


def case(dtype, rows, steps, hidden, inputs=None, lengths=None, seed=0):
    """Return ragged rows, some without a step, in tensors that are not contiguous.

    Attention is 0 or 1 at some steps.
    """
    g = torch.Generator().manual_seed(seed)
    inputs = inputs or (1, 5, 36, 70)[hidden % 4]
    if lengths is None:
        lengths = torch.randint(0, steps + 1, (rows,), generator=g)
        lengths[-1] = steps
    packing = Packing.of_lengths(torch.as_tensor(lengths))
    every = len(packing.row)
    c = {
        "inputs": torch.randn(inputs, every, generator=g).t(),
        "attention": (torch.rand(2 * every, generator=g)[::2] * 1.4 - 0.2).clamp(0, 1),
        "state": torch.randn(hidden, rows, generator=g).t(),
        "weight_ih": torch.randn(inputs, 3 * hidden, generator=g).t() / inputs**0.5,
        "weight_hh": torch.randn(hidden, 3 * hidden, generator=g).t() / hidden**0.5,
        "bias": torch.randn(2 * 3 * hidden, generator=g)[::2] / 2,
    }
    return {name: x.to(dtype) for name, x in c.items()} | {"packing": packing}


def leaves_of(arguments):
    return {n: x for n, x in arguments.items() if torch.is_tensor(x) and x.is_floating_point()}


def outcome(c, kind, backend):
    """States, final and the gradient of each input; the reference's in float64."""
    dtype = torch.float64 if backend == "reference" else c["inputs"].dtype
    leaves = {n: x.to(dtype).detach().requires_grad_() for n, x in leaves_of(c).items()}
    states, final = attentional_gru(**{**c, **leaves}, kind=kind, backend=backend)
    g = torch.Generator().manual_seed(9)
    weigh = [torch.randn(x.shape, generator=g).to(dtype) for x in (states, final)]
    ((states * weigh[0]).sum() + (final * weigh[1]).sum()).backward()
    # AGRU has no update gate: a gradient that a backend leaves out is zero.
    gradients = {n: torch.zeros_like(x) if x.grad is None else x.grad for n, x in leaves.items()}
    return {"states": states.detach(), "final": final.detach(), **gradients}


def check_against_reference(c, kind, backend):
    tolerance = TOLERANCE[c["inputs"].dtype]
    expected = outcome(c, kind, "reference")
    for name, got in outcome(c, kind, backend).items():
        bound = tolerance * max(1, expected[name].abs().max().item() if expected[name].numel() else 0)
        error = (got.double() - expected[name]).abs().max().item() if got.numel() else 0
        assert error <= bound, f"{name}: {error} > {bound}"  # false for NaN, too


def four_steps():
    """Return arguments of a backend's ``recurrence``: rows of two, no and two steps."""
    return {
        "x": torch.ones(4, 5),
        "offsets": torch.tensor([0, 2, 2, 4]),
        "attention": torch.ones(4),
        "state": torch.ones(3, 2),
        "weight_ih": torch.ones(6, 5),
        "weight_hh": torch.ones(6, 2),
        "bias": torch.ones(6),
        "kind": "AUGRU",
    }


WRONG_WEIGHTS = [
    ("state", torch.ones(2, 2), r"state must be \(3, 2\)"),
    ("weight_ih", torch.ones(6, 4), r"weight_ih must be \(6, 5\)"),
    ("weight_hh", torch.ones(6, 2, dtype=torch.float64), "weight_hh must be .* is .* torch.float64"),
]
"""Arguments that ``four_steps`` refuses: the argument, its value, the error."""
