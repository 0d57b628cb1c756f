"""Compiled attention unit and auxiliary loss, compared with torch in float64."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from made_recurrence import NARROW, compiled, pairwise
from torch.autograd import gradcheck

from model_zoo.DIEN.src.kernels.cpu import attention_scores, next_behaviour_loss

pytestmark = compiled

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
DTYPES = (torch.float32, torch.float64)
# Rows without a step, of one step, of whole blocks of 32 and of some more steps, of more rows than a pass takes.
LENGTHS = ((), (0, 0), (1,), (3, 0, 5, 1, 0), (0, 32, 0), (100, 31, 64, 2), (1,) * 33, (33,) * 5, (4, 0, 7) * 60)
LAYERS = ((5,), (80, 40), (100, 50), (9, 20, 3))
SIZES = (1, 7, 36, 37)


def net(inputs, layers, generator):
    sizes = [inputs, *layers, 1]
    weights = [
        torch.randn(before, after, generator=generator, dtype=torch.float64).t() / before**0.5
        for before, after in itertools.pairwise(sizes)
    ]
    return weights, [torch.randn(2 * after, generator=generator, dtype=torch.float64)[::2] for after in sizes[1:]]


def run_net(x, weights, biases, activation):
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = getattr(torch, activation)(F.linear(x, weight, bias))
    return F.linear(x, weights[-1], biases[-1]).squeeze(-1)


class Attention:
    """Arguments, none of them contiguous; what is computed, in plain torch."""

    function = staticmethod(attention_scores)

    def __init__(self, lengths=(4, 0, 40), size=3, layers=(5,), activation="sigmoid", seed=0):
        g = torch.Generator().manual_seed(seed)
        offsets = torch.tensor([0, *itertools.accumulate(lengths)])
        weights, biases = net(4 * size, layers, g)
        self.leaves = [
            torch.randn(size, int(offsets[-1]), generator=g, dtype=torch.float64).t(),
            torch.randn(size, len(lengths), generator=g, dtype=torch.float64).t(),
            *weights,
            *biases,
        ]
        self.offsets = offsets.repeat_interleave(2)[::2]
        self.activation = activation

    def arguments(self, leaves):
        states, query, *rest = leaves
        layers = len(rest) // 2
        return states, self.offsets, query, rest[:layers], rest[layers:], self.activation

    @staticmethod
    def expected(states, offsets, query, weights, biases, activation):
        q = query.repeat_interleave(offsets.diff(), dim=0)
        return run_net(torch.cat([q, states, q - states, q * states], dim=1), weights, biases, activation)


class Auxiliary:
    """Case like ``Attention``; values that do not count are NaN."""

    function = staticmethod(next_behaviour_loss)

    def __init__(
        self, lengths=(4, 0, 40), state_size=3, behaviour_size=2, negatives=2, layers=(5,), activation="relu", seed=0
    ):
        g = torch.Generator().manual_seed(seed)
        steps = sum(lengths)
        first = torch.tensor([0, *itertools.accumulate(lengths)])[:-1][torch.tensor(lengths, dtype=torch.int64) > 0]
        weigh = torch.rand(steps, 1 + negatives, generator=g, dtype=torch.float64).t().contiguous().t()
        weigh[torch.rand(weigh.shape, generator=g) < 0.3] = 0
        weigh[torch.rand(steps, generator=g) < 0.2] = 0
        weigh[first] = 0
        self.weigh = weigh[:, 0], weigh[:, 1:]
        weights, biases = net(state_size + behaviour_size, layers, g)
        behaviours = torch.randn(behaviour_size, steps, generator=g, dtype=torch.float64).t()
        negatives_ = torch.randn(steps, behaviour_size, negatives, generator=g, dtype=torch.float64).transpose(1, 2)
        behaviours[self.weigh[0] == 0] = float("nan")
        negatives_[self.weigh[1] == 0] = float("nan")
        self.leaves = [
            torch.randn(state_size, steps, generator=g, dtype=torch.float64).t(),
            behaviours,
            negatives_,
            *weights,
            *biases,
        ]
        self.activation = activation

    def arguments(self, leaves):
        states, behaviours, negatives, *rest = leaves
        weigh = (weight.to(states.dtype) for weight in self.weigh)
        layers = len(rest) // 2
        return states, behaviours, negatives, *weigh, rest[:layers], rest[layers:], self.activation

    @staticmethod
    def expected(states, behaviours, negatives, positive_weight, negative_weight, weights, biases, activation):
        def terms(weight, e, sign):
            step = weight.nonzero().squeeze(1)
            logits = run_net(torch.cat([states[step - 1], e[step]], dim=1), weights, biases, activation)
            return (weight[step] * F.softplus(sign * logits)).sum()

        losses = [terms(weight, e, 1) for weight, e in zip(negative_weight.unbind(1), negatives.unbind(1), strict=True)]
        return terms(positive_weight, behaviours, -1) + sum(losses)


def outcome(case, function, dtype):
    """Return the function's result, and the gradient of each leaf."""
    leaves = [leaf.to(dtype).detach().requires_grad_() for leaf in case.leaves]
    result = function(*case.arguments(leaves))
    weigh = torch.randn(result.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64).to(dtype)
    return [result.detach(), *torch.autograd.grad((result * weigh).sum(), leaves)]


def check(case, dtype):
    expected = outcome(case, case.expected, torch.float64)
    for i, (a, b) in enumerate(zip(outcome(case, case.function, dtype), expected, strict=True)):
        assert a.shape == b.shape and a.dtype == dtype
        if b.numel():
            error, bound = (a.double() - b).abs().max().item(), TOLERANCE[dtype] * max(1, b.abs().max().item())
            assert error <= bound, f"{i}: {error} > {bound}"  # false for NaN, too


ACTIVATIONS = ("sigmoid", "relu")
CASES = (Attention, Auxiliary)


@pytest.mark.parametrize(
    "lengths,size,layers,activation,dtype", pairwise([*itertools.product(LENGTHS, SIZES, LAYERS, ACTIVATIONS, DTYPES)])
)
def test_attention(lengths, size, layers, activation, dtype):
    check(Attention(lengths, size, layers, activation), dtype)


@pytest.mark.parametrize(
    "lengths,states,behaviours,negatives,layers,activation,dtype",
    pairwise([*itertools.product(LENGTHS, SIZES, SIZES, (1, 3), LAYERS, ACTIVATIONS, DTYPES)]),
)
def test_auxiliary_loss(lengths, states, behaviours, negatives, layers, activation, dtype):
    check(Auxiliary(lengths, states, behaviours, negatives, layers, activation), dtype)


def test_large_nets():
    check(Attention((40, 3), 512, (256, 512), "relu"), torch.float32)
    check(Auxiliary((40, 3), 512, 300, 1, (512, 1), "sigmoid"), torch.float32)


@pytest.mark.parametrize("flags", NARROW)
@pytest.mark.parametrize("dtype", DTYPES)
def test_narrow_vectors(monkeypatch, flags, dtype):
    monkeypatch.setenv("DIEN_CXXFLAGS", flags)
    for size, layers, activation in zip(SIZES, LAYERS, ACTIVATIONS * 2, strict=True):
        check(Attention((3, 0, 70), size, layers, activation), dtype)
        check(Auxiliary((3, 0, 70), size, 5, 2, layers, activation), dtype)


@pytest.mark.parametrize("case", [Attention((3, 0, 33), 2), Auxiliary((3, 0, 5))])
def test_gradients(case):
    case.leaves = [leaf.nan_to_num() for leaf in case.leaves]  # gradcheck compares them, too
    if isinstance(case, Attention):  # relu has no derivative at its corner
        assert case.activation == "sigmoid"
    assert gradcheck(
        lambda *leaves: case.function(*case.arguments(leaves)), [leaf.detach().requires_grad_() for leaf in case.leaves]
    )


@pytest.mark.parametrize("case", [Attention((4, 0, 40, 2)), Auxiliary((4, 0, 40, 2))])
def test_each_gradient_alone_equals_that_of_all(case):
    def gradients(wanted):
        leaves = [leaf.detach().requires_grad_(i in wanted) for i, leaf in enumerate(case.leaves)]
        return torch.autograd.grad(case.function(*case.arguments(leaves)).sum(), [leaves[i] for i in wanted])

    every = range(len(case.leaves))
    for i, expected in zip(every, gradients(every), strict=True):
        torch.testing.assert_close(gradients([i])[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("case", [case() for case in CASES])
def test_without_gradients(case):
    leaves = [leaf.detach().requires_grad_() for leaf in case.leaves]
    kept = case.function(*case.arguments(leaves))
    with torch.no_grad():
        free = case.function(*case.arguments(leaves))
    assert kept.requires_grad and not free.requires_grad and torch.equal(kept, free)


@pytest.mark.parametrize("case", [case() for case in CASES])
def test_gradients_again(case):
    leaves = [leaf.detach().requires_grad_() for leaf in case.leaves]
    result = case.function(*case.arguments(leaves)).sum()
    first = torch.autograd.grad(result, leaves, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for again, once in zip(torch.autograd.grad(3 * result, leaves), kept, strict=True):
        torch.testing.assert_close(again, 3 * once)
    assert all(map(torch.equal, first, kept))


@pytest.mark.parametrize("case", [case() for case in CASES])
def test_second_derivatives_are_refused(case):
    leaves = [leaf.detach().requires_grad_() for leaf in case.leaves]
    result = case.function(*case.arguments(leaves)).square().sum()
    (gradient,) = torch.autograd.grad(result, leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", [case((9, 40, 1) * 40, 36, layers=(80, 40)) for case in CASES])
def test_runs_agree_in_every_bit(case, threads):
    torch.set_num_threads(threads)  # the fixture of all tests resets it
    check(case, torch.float32)
    first = outcome(case, case.function, torch.float32)
    for _ in range(5):
        assert all(map(torch.equal, outcome(case, case.function, torch.float32), first))


def test_what_is_not_finite_stays_in_its_row():
    case = Attention((3, 0, 50, 2))
    scores = attention_scores(*case.arguments(case.leaves))
    for leaf, place, row in ((0, 40, slice(3, 53)), (1, 2, slice(3, 53)), (1, 1, slice(0, 0))):
        leaves = [x.clone() for x in case.leaves]
        leaves[leaf][place] = float("nan")
        changed = attention_scores(*case.arguments(leaves))
        outside = torch.ones(len(scores), dtype=torch.bool)
        outside[row] = False
        assert torch.equal(changed[outside], scores[outside])
        assert changed[row].isnan().sum() == (50 if leaf == 1 and place == 2 else leaf == 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits(dtype):
    """Check that softplus of z is z, and that of -z is 0."""
    one, h = torch.ones(1, dtype=dtype), torch.zeros(2, 1, dtype=dtype)
    weights = [torch.ones(1, 2, dtype=dtype), 1000 * torch.ones(1, 1, dtype=dtype)]
    for e, loss in ((1, 1000), (0, 2 * torch.tensor(2.0, dtype=dtype).log())):
        behaviours = torch.full((2, 1), e, dtype=dtype)
        got = next_behaviour_loss(
            h,
            behaviours,
            behaviours.unsqueeze(1),
            torch.tensor([0, 1], dtype=dtype),
            torch.tensor([[0], [1]], dtype=dtype),
            weights,
            [0 * one, 0 * one],
            "relu",
        )
        torch.testing.assert_close(got, torch.as_tensor(loss, dtype=dtype))
