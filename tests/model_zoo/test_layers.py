"""Attention, auxiliary loss and its negatives, Dice, alignment: each against plain loops."""

import itertools
import math

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import Dice as ZooDice
from hypothesis import given, settings
from hypothesis import strategies as st
from made_recurrence import FAST
from torch.autograd import gradcheck

from model_zoo.DIEN.src.catalogue import Catalogue, read_catalogue
from model_zoo.DIEN.src.layers.activations import Dice, activation
from model_zoo.DIEN.src.layers.attention import ATTENTION_TYPES, InterestAttention
from model_zoo.DIEN.src.layers.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.auxiliary_loss import SCORERS, WEIGHTINGS, AuxiliaryLoss, relevance
from model_zoo.DIEN.src.layers.compiled.step_mlp import plain
from model_zoo.DIEN.src.layers.packing import Packing, pack
from model_zoo.DIEN.src.layers.step_mlp import StepMLP
from model_zoo.DIEN.src.negatives import BatchPool, draw_against

LENGTHS = [3, 1, 0]
PACKING = Packing.of_lengths(torch.tensor(LENGTHS))


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("target_size", [4, 3])
@pytest.mark.parametrize("backend", FAST)
def test_attention_against_a_loop(attention_type, softmax, target_size, backend, double):
    torch.manual_seed(0)
    layer = InterestAttention(4, target_size, attention_type, [5], "Sigmoid", use_softmax=softmax, backend=backend)
    if attention_type == "din_dense_attention":
        assert layer.project[1].weight.tolist() == [0.1] * 4
        torch.nn.init.uniform_(layer.project[1].weight, -1, 1)
    h, target = torch.randn(4, 4), torch.randn(3, target_size)
    expected = []
    for row, steps in enumerate(torch.split(h, LENGTHS)):
        scores = []
        for step in steps:
            if attention_type == "bilinear_attention":
                score = step @ layer.weight @ target[row]
            else:
                if attention_type == "din_dense_attention":
                    dense, prelu = layer.project
                    q = torch.stack([w @ target[row] + b for w, b in zip(dense.weight, dense.bias, strict=True)])
                    q = torch.stack([x if x > 0 else alpha * x for x, alpha in zip(q, prelu.weight, strict=True)])
                else:
                    q = layer.project(target[row])
                score = step @ q
                if layer.unit:
                    score = torch.cat([q, step, q - step, q * step])
                    for part in layer.unit.layers:
                        score = part(score)
                    score = score[0]
            scores.append(score)
        if scores:
            expected.append(torch.softmax(torch.stack(scores), 0) if softmax else torch.stack(scores))
    torch.testing.assert_close(layer(h, target, PACKING), torch.cat(expected))


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("kind", ["AIGRU", "AGRU", "AUGRU", "AUGRU-code"])
@pytest.mark.parametrize("activation", ["Dice", "Sigmoid"])
def test_gradients_of_every_gru_type_and_attention_type(kind, attention_type, activation, double):
    torch.manual_seed(1)
    attention = InterestAttention(3, 3, attention_type, [4], activation)
    gru = AttentionalGRU(3, 3, kind)
    pair = torch.nn.ModuleDict({"attention": attention, "gru": gru})
    names, parameters = zip(*pair.named_parameters(), strict=True)

    class Evolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair

        def forward(self, h, target):
            return self.pair["gru"](h, PACKING, self.pair["attention"](h, target, PACKING))[1]

    evolution = Evolution().eval()

    def run(h, target, *weights):
        state = {f"pair.{name}": w for name, w in zip(names, weights, strict=True)}
        return torch.func.functional_call(evolution, state, (h, target))

    inputs = [torch.randn(4, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)]
    assert gradcheck(run, [*inputs, *parameters])


@pytest.mark.parametrize("rows", [2, 20])
def test_dice_equals_the_zoos(rows):
    torch.manual_seed(0)
    x = torch.randn(rows, 3)
    ours, zoo = Dice(3), ZooDice(3)
    with torch.no_grad():
        ours.alpha.fill_(0.3)
        zoo.alpha.fill_(0.3)
    torch.testing.assert_close(ours(x), zoo(x))
    torch.testing.assert_close(ours.running_mean, zoo.bn.running_mean)
    torch.testing.assert_close(ours.running_var, zoo.bn.running_var)
    ours.eval()
    zoo.eval()
    torch.testing.assert_close(ours(x), zoo(x))


@pytest.mark.parametrize("rows", [0, 1])
def test_dice_uses_running_statistics_below_two_rows(rows):
    layer = Dice(3)
    x = torch.randn(rows, 3, requires_grad=True)
    before = layer.running_mean.clone()
    trained = layer(x)
    trained.sum().backward()
    assert torch.equal(layer.running_mean, before) and torch.isfinite(x.grad).all()
    torch.testing.assert_close(trained, layer.eval()(x))


def test_activations_by_the_zoos_names():
    assert isinstance(activation("ReLU", 2), torch.nn.ReLU) and isinstance(activation("relu", 2), torch.nn.ReLU)
    assert isinstance(activation("Dice", 2), Dice) and activation("PReLU", 5).num_parameters == 5
    with pytest.raises(ValueError, match="activation 'Linear' is unknown"):
        activation("Linear", 2)
    with pytest.raises(ValueError, match="do not match hidden units"):
        StepMLP(2, [3, 4], ["ReLU"])


@pytest.mark.parametrize(
    "activations,dropout,output,expected",
    [
        ("Sigmoid", 0, None, "sigmoid"),
        ("ReLU", 0, None, "relu"),
        (["ReLU", "ReLU"], 0.5, None, None),
        (["ReLU", "Sigmoid"], 0, None, None),
        ("Dice", 0, None, None),
        ("PReLU", 0, None, None),
        ("Sigmoid", 0, "Sigmoid", None),
    ],
)
def test_which_nets_the_kernels_run(activations, dropout, output, expected):
    net = plain(StepMLP(3, [4, 2], activations, dropout, output))
    assert (net and net[2]) == expected
    if net:
        assert [tuple(weight.shape) for weight in net[0]] == [(4, 3), (2, 4), (1, 2)] and len(net[1]) == 3


def test_dropout_at_rest_is_nothing():
    net = StepMLP(3, [4], "ReLU", dropout=0.5)
    assert plain(net) is None and plain(net.eval())


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
def test_auxiliary_loss_weighed_by_attention_against_a_plain_loop(scorer, backend, double):
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
def test_auxiliary_loss_of_the_newest_behaviours_against_a_plain_loop(scorer, backend, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(4, 4, scorer, [5, 3], "Sigmoid", backend=backend, weighting="newest")
    h, e, negatives = torch.randn(11, 4), torch.randn(11, 4), torch.randn(11, 2, 4)
    valid = torch.ones(11, 2, dtype=torch.bool)
    valid[4, 1], valid[10] = False, False  # one negative of the first row's newest, all of the last row's
    loss = layer(h, e, Packing.of_lengths(torch.tensor([5, 0, 3, 1, 2])), negatives, valid)
    pairs = [loss_by_loop(layer, h[a:b], e[a:b], [2], negatives[a:b], valid[a:b]) for a, b in ((3, 5), (6, 8))]
    assert loss.item() == pytest.approx(sum(pairs) / 2, abs=1e-12)


def test_weights_of_steps_have_the_mean_1_in_each_row_and_stay_finite():
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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(0, 9))
def test_batch_negatives_are_whole_observed_tuples_and_never_the_positive(rows, seed):
    torch.manual_seed(seed)
    (items,), _ = pack([torch.tensor(rows)])
    ids = torch.stack([items, 10 * items])  # the side field tells which item it belongs to
    oov = 4
    drawn, valid = draw_against(BatchPool(ids[:, items != oov]), items, 3)
    assert drawn.shape == (2, len(items), 3)
    observed = set(items.tolist()) - {oov}
    for t, k in itertools.product(range(len(items)), range(3)):
        if valid[t, k]:
            item, side = drawn[:, t, k].tolist()
            assert item in observed and side == 10 * item and item != items[t]
    if not observed:
        assert not valid.any()


def test_a_step_without_any_possible_negative_has_none():
    items = torch.tensor([3, 3, 3, 3])
    _, valid = draw_against(BatchPool(items[None]), items, 2)
    assert not valid.any()


def test_batch_negatives_follow_the_batch_and_are_fresh():
    torch.manual_seed(0)
    pool = BatchPool(torch.tensor([[1] * 8 + [2]]))  # 1 is drawn eight times in nine against 9
    drawn, _ = draw_against(pool, torch.full((4000,), 9), 1)
    assert abs((drawn == 1).float().mean().item() - 8 / 9) < 0.02
    again, _ = draw_against(pool, torch.full((4000,), 9), 1)
    assert not torch.equal(drawn, again)


def write_catalogue(folder, **columns):
    (folder / "behaviour_catalogue").mkdir()
    np.savez(folder / "behaviour_catalogue" / "item_history.npz", **columns)


def test_catalogue_draws_whole_known_behaviours_as_often_as_they_occur(tmp_path):
    torch.manual_seed(0)
    write_catalogue(
        tmp_path,
        item_history=[1, 2, 3, 9, 2],
        cate_history=[5, 6, 7, 5, 6],
        brand_history=[1, 1, 1, 1, 2],
        count=[10, 20, 70, 500, 20],
    )
    ids, counts = read_catalogue(tmp_path, ("item_history", "cate_history"), (9, 8))
    assert ids.tolist() == [[1, 2, 3], [5, 6, 7]] and counts.tolist() == [10, 40, 70]  # without OOV
    drawn, valid = draw_against(Catalogue(ids, counts), torch.zeros(20000, dtype=torch.long), 1)
    assert valid.all() and torch.equal(drawn[1], drawn[0] + 4)  # always the item's own category
    for item, share in zip((1, 2, 3), (1 / 12, 4 / 12, 7 / 12), strict=True):
        assert abs((drawn[0] == item).float().mean().item() - share) < 0.015
    with pytest.raises(ValueError, match="no behaviour catalogue of query_history"):
        read_catalogue(tmp_path, ("query_history",), (9,))


def test_empty_catalogue_has_no_negative(tmp_path):
    write_catalogue(tmp_path, item_history=[9], count=[1])
    _, valid = draw_against(Catalogue(*read_catalogue(tmp_path, ("item_history",), (9,))), torch.ones(6).long(), 1)
    assert not valid.any()


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_pack_takes_the_real_steps_in_order(rows):
    items = torch.tensor(rows)
    (packed, sides), packing = pack([items, 3 - items])  # the first field alone says what is real
    kept = [[x for x in row if x > 0] for row in rows]
    assert packed.tolist() == [x for row in kept for x in row] and torch.equal(sides, 3 - packed)
    assert packing.lengths.tolist() == [len(row) for row in kept]
    assert packing.row.tolist() == [i for i, row in enumerate(kept) for _ in row]
    assert packing.place.tolist() == [t for row in kept for t in range(len(row))]
    assert packed[packing.reverse].tolist() == [x for row in kept for x in row[::-1]]
    longest = max(map(len, kept))
    assert packing.pad(packed).tolist() == [row + [0] * (longest - len(row)) for row in kept]
    assert torch.equal(packing.pad(packed) > 0, packing.mask())
    assert packing.sum(packed).tolist() == [sum(row) for row in kept]
    assert packing.spread(packing.lengths).tolist() == [len(row) for row in kept for _ in row]
    assert packing.repeat(2).lengths.tolist() == 2 * packing.lengths.tolist()
    scores = torch.randn(len(packed), dtype=torch.float64)
    expected = [part.softmax(0) for part in scores.split(packing.lengths.tolist())]
    torch.testing.assert_close(packing.softmax(scores), torch.cat(expected))
    again = Packing.of_mask(packing.mask())
    assert torch.equal(again.offsets, packing.offsets) and torch.equal(again.row, packing.row)


def test_softmax_of_large_scores_stays_finite():
    scores = torch.tensor([1e4, 1e4 - 1, -1e4, 5.0])
    expected = torch.tensor([0.7310586, 0.2689414, 0, 1])
    torch.testing.assert_close(Packing.of_lengths(torch.tensor([3, 0, 1])).softmax(scores), expected)
