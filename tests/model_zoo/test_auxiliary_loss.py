"""Auxiliary loss against a plain loop: scorers, weightings, gradients."""

import math

import pytest
import torch
from made_recurrence import FAST
from torch.autograd import gradcheck

from model_zoo.DIEN.src.auxiliary_loss import SCORERS, WEIGHTINGS, AuxiliaryLoss, relevance
from model_zoo.DIEN.src.layers.packing import Packing


def loss_by_loop(layer, h, e, lengths, negatives, valid, attention=None):
    def score(x, y):
        if layer.net is None:
            return (x @ y).item()
        z = torch.cat([x, y])
        for part in layer.net.layers:
            z = part(z)
        return z.item()

    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    terms, begin = [], 0
    for length in lengths:
        of_row, weights = [], []
        for t in range(begin, begin + length - 1):
            wrong = [k for k in range(negatives.size(1)) if valid[t + 1, k]]
            if wrong:
                weights.append(1 if attention is None else attention[t + 1].item())
                of_row.append(
                    -math.log(sigmoid(score(h[t], e[t + 1])))
                    - sum(math.log(1 - sigmoid(score(h[t], negatives[t + 1, k]))) for k in wrong) / len(wrong)
                )
        mean = sum(weights) / max(len(weights), 1)
        terms += [term * weight / mean for term, weight in zip(of_row, weights, strict=True)]
        begin += length
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("backend", FAST)
def test_auxiliary_loss_against_a_plain_loop(scorer, backend, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(4, 4, scorer, [5, 3], "Sigmoid", backend=backend)
    lengths = [5, 0, 3, 1]
    packing = Packing.of_lengths(torch.tensor(lengths))
    h, e, negatives = torch.randn(9, 4), torch.randn(9, 4), torch.randn(9, 2, 4)
    valid = torch.rand(9, 2) > 0.3
    negatives[~valid] = math.nan
    got = layer(h, e, packing, negatives, valid)
    assert got.item() == pytest.approx(loss_by_loop(layer, h, e, lengths, negatives, valid), abs=1e-12)
    assert layer(h, e, packing, negatives, valid & False).item() == 0
    first = packing.place == 0
    alone = Packing.of_lengths(torch.ones(3, dtype=torch.int64))
    assert layer(h[first], e[first], alone, negatives[first], valid[first]).item() == 0


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("backend", FAST)
def test_attention_weighted_loss_equals_a_plain_loop(scorer, backend, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(4, 4, scorer, [5, 3], "Sigmoid", backend=backend, weighting="target_attention")
    lengths = [5, 0, 3, 1, 2]
    packing = Packing.of_lengths(torch.tensor(lengths))
    h, e, negatives = torch.randn(11, 4), torch.randn(11, 4), torch.randn(11, 2, 4)
    valid = torch.rand(11, 2) > 0.3
    valid[3], valid[10] = False, False  # a step of a row, and the only one of another
    attention = packing.softmax(2 * torch.randn(11)).requires_grad_()
    loss = layer(h.requires_grad_(), e, packing, negatives, valid, attention)
    assert loss.item() == pytest.approx(loss_by_loop(layer, h, e, lengths, negatives, valid, attention), abs=1e-12)
    loss.backward()
    assert h.grad.any() and attention.grad is None
    with pytest.raises(ValueError, match="needs the attention of the target"):
        layer(h, e, packing, negatives, valid)


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("backend", FAST)
def test_newest_weighted_loss_equals_a_plain_loop(scorer, backend, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(4, 4, scorer, [5, 3], "Sigmoid", backend=backend, weighting="newest")
    h, e, negatives = torch.randn(11, 4), torch.randn(11, 4), torch.randn(11, 2, 4)
    valid = torch.ones(11, 2, dtype=torch.bool)
    valid[4, 1], valid[10] = False, False  # one negative of the first row's newest, all of the last row's
    loss = layer(h, e, Packing.of_lengths(torch.tensor([5, 0, 3, 1, 2])), negatives, valid)
    pairs = [loss_by_loop(layer, h[a:b], e[a:b], [2], negatives[a:b], valid[a:b]) for a, b in ((3, 5), (6, 8))]
    assert loss.item() == pytest.approx(sum(pairs) / 2, abs=1e-12)


def test_step_weights_are_finite_with_mean_1_per_row():
    attention = torch.tensor([0.5, 0.3, 0.1, 0.1, 1.0, 0.0, 0.0, 1.0])
    counts = torch.tensor([True, True, True, False, True, True, True, True])
    found = relevance(attention, counts, Packing.of_lengths(torch.tensor([4, 3, 1])))
    torch.testing.assert_close(found, torch.tensor([0, 1.5, 0.5, 0, 0, 0, 0, 0]))


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_auxiliary_loss_gradients(scorer, backend, weighting, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(2, 2, scorer, [3], "Sigmoid", backend=backend, weighting=weighting)
    attention = torch.tensor([0.2, 0.5, 0.3, 0.4, 0.6])
    packing = Packing.of_lengths(torch.tensor([3, 2]))
    valid = torch.tensor([[True, True], [True, False], [True, True], [False, True], [True, True]])
    inputs = [
        torch.randn(5, 2, requires_grad=True),
        torch.randn(5, 2, requires_grad=True),
        torch.randn(5, 2, 2, requires_grad=True),
    ]
    assert gradcheck(lambda h, e, n: layer(h, e, packing, n, valid, attention), inputs)


def test_auxiliary_loss_refuses():
    with pytest.raises(ValueError, match="aux_scorer='cosine' is unknown; allowed: net, inner_product"):
        AuxiliaryLoss(2, 2, "cosine")
    with pytest.raises(ValueError, match=r"aux_loss_weighting=.target. is unknown; allowed: uniform, .*, newest"):
        AuxiliaryLoss(2, 2, weighting="target")
    with pytest.raises(ValueError, match="gru_hidden_size=3"):
        AuxiliaryLoss(3, 2, "inner_product")
