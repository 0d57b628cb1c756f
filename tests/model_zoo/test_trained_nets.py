"""Compiled training of Dice, PReLU and dropout, compared with torch in float64.

Results, gradients and running statistics are compared, under the same masks.
"""

import copy
import itertools

import pytest
import torch
from made_recurrence import NARROW, as_if_trained, compiled, pairwise

from model_zoo.DIEN.src.kernels import in_torch
from model_zoo.DIEN.src.kernels.cpu import native_step_mlp
from model_zoo.DIEN.src.layers.packing import Packing
from model_zoo.DIEN.src.layers.step_mlp import StepMLP

pytestmark = compiled

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}
DTYPES = (torch.float32, torch.float64)
# Without a step, with one, which has no statistics, with whole blocks of 32 and more; the last has several parts.
LENGTHS = ((), (0, 0), (1,), (100, 31, 64, 2), (1,) * 33, (4, 0, 7) * 60, (2, 300) * 8)
LAYERS = ((5,), (80, 40), (9, 20, 3))
SIZES = (1, 7, 36)
DROPOUTS = (0, 0.2, 0.9)
ACTIVATIONS = (("Dice",), ("PReLU",), ("ReLU",), ("Dice", "ReLU"), ("Sigmoid", "Dice"), ("PReLU", "Dice", "Dice"))


def made_net(inputs, layers, activations, dropout):
    """Return a net with slopes and statistics of a trained net."""
    names = [*itertools.islice(itertools.cycle(activations), len(layers))]
    return as_if_trained(StepMLP(inputs, layers, names, dropout).double())


class Attention:
    """Attention unit over packed rows; `run` calls it in one of the backends."""

    def __init__(self, lengths, size, layers, activations, dropout=0):
        torch.manual_seed(0)
        self.packing = Packing.of_lengths(torch.tensor(lengths, dtype=torch.int64))
        self.net = made_net(4 * size, layers, activations, dropout)
        sizes = len(self.packing.row), len(lengths)
        self.leaves = [torch.randn(size, rows, dtype=torch.float64).T for rows in sizes]

    def run(self, backend, net, states, query):
        return backend.attention_scores(states, self.packing, query, net)


class Auxiliary:
    """Auxiliary loss over packed rows; behaviours without negatives do not count, and some weights are 0."""

    def __init__(self, lengths, size, layers, activations, dropout=0, behaviour_size=5, negatives=2):
        torch.manual_seed(0)
        self.packing = Packing.of_lengths(torch.tensor(lengths, dtype=torch.int64))
        steps = len(self.packing.row)
        self.net = made_net(size + behaviour_size, layers, activations, dropout)
        self.has_negative = torch.rand(steps, negatives) < 0.7
        self.weight = torch.rand(steps, dtype=torch.float64) * (torch.rand(steps) < 0.9)
        shapes = (steps, size), (steps, behaviour_size), (steps, negatives, behaviour_size)
        self.leaves = [torch.randn(shape, dtype=torch.float64) for shape in shapes]

    def run(self, backend, net, states, behaviours, negatives):
        return backend.next_behaviour_loss(
            states, behaviours, self.packing, negatives, self.has_negative, net, self.weight.to(states.dtype)
        )


CASES = (Attention, Auxiliary)


def outcome(case, backend, dtype, training=True):
    """Return the result, the gradients of leaves and parameters, and the running statistics."""
    net = copy.deepcopy(case.net).to(dtype).train(training)
    leaves = [leaf.to(dtype).detach().requires_grad_() for leaf in case.leaves]
    torch.manual_seed(5)
    result = case.run(backend, net, *leaves)
    weigh = torch.randn(result.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(dtype)
    gradients = torch.autograd.grad((result * weigh).sum(), [*leaves, *net.parameters()])
    return [result.detach(), *gradients, *net.buffers()]


def check(case, dtype, training=True):
    with pytest.MonkeyPatch.context() as patch:
        expected = outcome(case, in_torch, torch.float64, training)
        patch.setattr(native_step_mlp, "in_torch", None)
        got = outcome(case, native_step_mlp, dtype, training)
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert a.shape == b.shape and a.dtype == dtype
        if b.numel():
            error, bound = (a.double() - b).abs().max().item(), TOLERANCE[dtype] * max(1, b.abs().max().item())
            assert error <= bound, f"{i}: {error} > {bound}"  # false for NaN, too


@pytest.mark.parametrize(
    "case,lengths,size,layers,activations,dropout,training,dtype",
    pairwise([*itertools.product(CASES, LENGTHS, SIZES, LAYERS, ACTIVATIONS, DROPOUTS, (True, False), DTYPES)]),
)
def test_results_gradients_and_statistics(case, lengths, size, layers, activations, dropout, training, dtype):
    check(case(lengths, size, layers, activations, dropout), dtype, training)


@pytest.mark.parametrize("flags", NARROW)
def test_narrow_vectors(monkeypatch, flags):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for case, dtype in itertools.product(CASES, DTYPES):
        check(case((3, 0, 70), 7, (9, 20, 3), ("PReLU", "Dice", "Sigmoid"), 0.3), dtype)


@pytest.mark.parametrize("case", CASES)
def test_dice_and_masks_do_not_depend_on_the_number_of_threads(case):
    made = case((9, 40, 1) * 100, 36, (80, 40), ("Dice",), 0.2)
    every = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)  # the fixture of all tests resets it
        every.append(outcome(made, native_step_mlp, torch.float32))
    for other in every[1:]:
        assert all(map(torch.equal, every[0], other))


@pytest.mark.parametrize("case", CASES)
def test_gradients_again(case):
    made = case((9, 40, 1), 7, (9, 5), ("Dice", "PReLU"), 0.5)
    leaves = [leaf.detach().requires_grad_() for leaf in made.leaves]
    leaves = [*leaves, *made.net.parameters()]
    result = made.run(native_step_mlp, made.net, *leaves[: len(made.leaves)]).sum()
    first = torch.autograd.grad(result, leaves, retain_graph=True)
    for again, once in zip(torch.autograd.grad(3 * result, leaves), first, strict=True):
        torch.testing.assert_close(again, 3 * once)


def test_without_gradients_statistics_are_taken():
    made = Attention((9, 40, 1), 7, (9, 5), ("Dice",))
    kept = outcome(made, native_step_mlp, torch.float64)
    with torch.no_grad():
        assert torch.equal(made.run(native_step_mlp, made.net, *made.leaves), kept[0])
    assert all(map(torch.equal, made.net.buffers(), kept[-4:]))


def test_large_means_keep_their_variance():
    """Check the sums in float64: the mean is 10,000 times the standard deviation."""
    made = Attention((300,) * 3, 7, (9,), ("Dice",))
    made.net.first.weight.data.mul_(1e-2)
    made.net.first.bias.data.fill_(1e2)
    with torch.no_grad():
        scores = made.run(native_step_mlp, copy.deepcopy(made.net).float(), *(leaf.float() for leaf in made.leaves))
        expected = made.run(in_torch, made.net, *made.leaves)
    assert (scores - expected).abs().max() < 1e-2 * expected.std()
