"""Attention, auxiliary loss and its negatives, Dice, alignment: each against plain loops."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from fuxictr.pytorch.layers import Dice as ZooDice
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from model_zoo.DIEN.src.layers.activations import Dice, activation
from model_zoo.DIEN.src.layers.attention import ATTENTION_TYPES, InterestAttention
from model_zoo.DIEN.src.layers.attentional_gru import AttentionalGRU
from model_zoo.DIEN.src.layers.auxiliary_loss import SCORERS, AuxiliaryLoss
from model_zoo.DIEN.src.layers.masked_mlp import MaskedMLP
from model_zoo.DIEN.src.negatives import BatchPool, Catalogue, draw_against
from model_zoo.DIEN.src.sequences import align

MASK = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("target_size", [4, 3])
def test_attention_against_a_loop(attention_type, softmax, target_size, double):
    torch.manual_seed(0)
    layer = InterestAttention(4, target_size, attention_type, [5], "Sigmoid", use_softmax=softmax)
    h, target = torch.randn(3, 3, 4), torch.randn(3, target_size)
    expected = torch.zeros(3, 3)
    for row, steps in enumerate([3, 1, 0]):
        scores = []
        for t in range(steps):
            if attention_type == "bilinear_attention":
                score = h[row, t] @ layer.weight @ target[row]
            else:
                q = layer.project(target[row])
                score = h[row, t] @ q
                if attention_type == "din_attention":
                    score = torch.cat([q, h[row, t], q - h[row, t], q * h[row, t]])
                    for part in layer.unit.layers:
                        score = part(score)
                    score = score[0]
            scores.append(score)
        if steps:
            expected[row, :steps] = torch.softmax(torch.stack(scores), 0) if softmax else torch.stack(scores)
    torch.testing.assert_close(layer(h, target, MASK), expected)


@pytest.mark.parametrize("attention_type", ATTENTION_TYPES)
@pytest.mark.parametrize("kind", ["AIGRU", "AGRU", "AUGRU", "AUGRU-code"])
def test_gradients_of_every_gru_type_and_attention_type(kind, attention_type, double):
    torch.manual_seed(1)
    attention = InterestAttention(3, 3, attention_type, [4], "Dice")
    gru = AttentionalGRU(3, 3, kind)
    pair = torch.nn.ModuleDict({"attention": attention, "gru": gru})
    names, parameters = zip(*pair.named_parameters(), strict=True)

    class Evolution(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair

        def forward(self, h, target):
            return self.pair["gru"](h, MASK, self.pair["attention"](h, target, MASK))[1]

    evolution = Evolution().eval()

    def run(h, target, *weights):
        state = {f"pair.{name}": w for name, w in zip(names, weights, strict=True)}
        return torch.func.functional_call(evolution, state, (h, target))

    inputs = [torch.randn(3, 3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)]
    assert gradcheck(run, [*inputs, *parameters])


def test_dice_equals_the_zoos_on_real_rows_only():
    torch.manual_seed(0)
    x, mask = torch.randn(20, 3), torch.arange(20) < 12
    ours, zoo = Dice(3), ZooDice(3)
    with torch.no_grad():
        ours.alpha.fill_(0.3)
        zoo.alpha.fill_(0.3)
    torch.testing.assert_close(ours(x, mask)[:12], zoo(x[:12]))
    torch.testing.assert_close(ours.running_mean, zoo.bn.running_mean)
    torch.testing.assert_close(ours.running_var, zoo.bn.running_var)
    ours.eval()
    zoo.eval()
    torch.testing.assert_close(ours(x, mask), zoo(x))


@pytest.mark.parametrize("real", [0, 1])
def test_dice_uses_running_statistics_below_two_rows(real):
    layer = Dice(3)
    x = torch.randn(4, 3, requires_grad=True)
    before = layer.running_mean.clone()
    trained = layer(x, torch.arange(4) < real)
    trained.sum().backward()
    assert torch.equal(layer.running_mean, before) and torch.isfinite(x.grad).all()
    torch.testing.assert_close(trained, layer.eval()(x, torch.ones(4, dtype=torch.bool)))


@pytest.mark.parametrize("activation", ["Dice", "PReLU"])
def test_masked_mlp_on_every_step_as_on_a_gpu_equals_that_on_real_steps(activation, double):
    torch.manual_seed(0)
    real_only, x = MaskedMLP(4, [5, 3], activation), torch.randn(3, 3, 4)
    every = copy.deepcopy(real_only)
    scores = every._run(x.flatten(0, -2), MASK.flatten()).view(MASK.shape)
    torch.testing.assert_close(scores[MASK], real_only(x, MASK)[MASK])
    for own, other in zip(every.buffers(), real_only.buffers(), strict=True):
        torch.testing.assert_close(own, other)


def test_activations_by_the_zoos_names():
    assert isinstance(activation("ReLU", 2), torch.nn.ReLU) and isinstance(activation("relu", 2), torch.nn.ReLU)
    assert isinstance(activation("Dice", 2), Dice) and activation("PReLU", 5).num_parameters == 5
    with pytest.raises(ValueError, match="activation 'Linear' is unknown"):
        activation("Linear", 2)
    with pytest.raises(ValueError, match="do not match hidden units"):
        MaskedMLP(2, [3, 4], ["ReLU"])


def loss_by_loop(layer, h, e, mask, negatives, valid):
    def score(x, y):
        if layer.net is None:
            return (x @ y).item()
        z = torch.cat([x, y])
        for part in layer.net.layers:
            z = part(z)
        return z.item()

    def sigmoid(z):
        return 1 / (1 + math.exp(-z))

    terms = []
    for row, t in itertools.product(range(len(h)), range(h.size(1) - 1)):
        wrong = [k for k in range(negatives.size(2)) if valid[row, t + 1, k]]
        if mask[row, t + 1] and wrong:
            terms.append(-math.log(sigmoid(score(h[row, t], e[row, t + 1])))
                         - sum(math.log(1 - sigmoid(score(h[row, t], negatives[row, t + 1, k]))) for k in wrong)
                         / len(wrong))
    return sum(terms) / max(len(terms), 1)


@pytest.mark.parametrize("scorer", SCORERS)
def test_auxiliary_loss_against_a_plain_loop(scorer, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(4, 4, scorer, [5, 3], "Sigmoid")
    h, e, negatives = torch.randn(3, 5, 4), torch.randn(3, 5, 4), torch.randn(3, 5, 2, 4)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])
    valid = torch.rand(3, 5, 2) > 0.3
    got = layer(h, e, mask, negatives, valid)
    assert got.item() == pytest.approx(loss_by_loop(layer, h, e, mask, negatives, valid), abs=1e-12)
    assert layer(h, e, mask & False, negatives, valid).item() == 0
    assert layer(h[:, :1], e[:, :1], mask[:, :1], negatives[:, :1], valid[:, :1]).item() == 0


@pytest.mark.parametrize("scorer", SCORERS)
def test_auxiliary_loss_gradients(scorer, double):
    torch.manual_seed(0)
    layer = AuxiliaryLoss(2, 2, scorer, [3], "Sigmoid")
    mask = torch.arange(3) < torch.tensor([[3], [2]])
    valid = torch.ones(2, 3, 1, dtype=torch.bool)
    inputs = [torch.randn(2, 3, 2, requires_grad=True), torch.randn(2, 3, 2, requires_grad=True),
              torch.randn(2, 3, 1, 2, requires_grad=True)]
    assert gradcheck(lambda h, e, n: layer(h, e, mask, n, valid), inputs)


def test_auxiliary_loss_refuses():
    with pytest.raises(ValueError, match="aux_scorer='cosine' is unknown; allowed: net, inner_product"):
        AuxiliaryLoss(2, 2, "cosine")
    with pytest.raises(ValueError, match="gru_hidden_size=3"):
        AuxiliaryLoss(3, 2, "inner_product")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(0, 9))
def test_batch_negatives_are_whole_observed_tuples_and_never_the_positive(rows, seed):
    torch.manual_seed(seed)
    items = torch.tensor(rows)
    (items,), mask = align([items])
    ids = torch.stack([items, 10 * items])  # the side field tells which item it belongs to
    oov = 4
    drawn, valid = draw_against(BatchPool(ids, mask & (items != oov)), items, 3)
    assert drawn.shape == (2, *items.shape, 3)
    observed = set(items[mask].tolist()) - {oov}
    for row, t, k in itertools.product(range(len(rows)), range(items.size(1)), range(3)):
        if valid[row, t, k]:
            item, side = drawn[:, row, t, k].tolist()
            assert item in observed and side == 10 * item and item != items[row, t]
    if not observed:
        assert not valid.any()


def test_a_step_without_any_possible_negative_has_none():
    items = torch.tensor([[3, 3], [3, 3]])
    _, valid = draw_against(BatchPool(items[None], items > 0), items, 2)
    assert not valid.any()


def test_batch_negatives_follow_the_batch_and_are_fresh():
    torch.manual_seed(0)
    items = torch.tensor([[1] * 8 + [2, 9]])  # 1 is drawn four times in five against 9
    pool = BatchPool(items[None], items < 9)
    drawn, _ = draw_against(pool, torch.full((1, 4000), 9), 1)
    assert abs((drawn == 1).float().mean().item() - 8 / 9) < 0.02
    again, _ = draw_against(pool, torch.full((1, 4000), 9), 1)
    assert not torch.equal(drawn, again)


def write_catalogue(folder, **columns):
    (folder / "behaviour_catalogue").mkdir()
    np.savez(folder / "behaviour_catalogue" / "item_history.npz", **columns)


def test_catalogue_draws_by_popularity_or_uniformly(tmp_path):
    torch.manual_seed(0)
    write_catalogue(tmp_path, item_history=[1, 2, 3, 9, 2], cate_history=[5, 6, 7, 5, 6],
                    brand_history=[1, 1, 1, 1, 2], count=[10, 20, 70, 500, 20])
    fields, oov, positives = ("item_history", "cate_history"), (9, 8), torch.zeros(1, 20000, dtype=torch.long)
    for by_popularity, shares in ((True, [1 / 12, 4 / 12, 7 / 12]), (False, [1 / 3, 1 / 3, 1 / 3])):
        drawn, valid = draw_against(Catalogue.load(tmp_path, fields, oov, by_popularity), positives, 1)
        assert valid.all() and torch.equal(drawn[1], drawn[0] + 4)  # never OOV, always the item's own category
        for item, share in zip((1, 2, 3), shares, strict=True):
            assert abs((drawn[0] == item).float().mean().item() - share) < 0.015
    with pytest.raises(ValueError, match="no behaviour catalogue of query_history"):
        Catalogue.load(tmp_path, ("query_history",), (9,), True)


def test_empty_catalogue_has_no_negative(tmp_path):
    write_catalogue(tmp_path, item_history=[9], count=[1])
    _, valid = draw_against(Catalogue.load(tmp_path, ("item_history",), (9,), True), torch.ones(2, 3).long(), 1)
    assert not valid.any()


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_align_moves_real_steps_to_the_front_in_order(rows):
    items = torch.tensor(rows)
    (aligned, sides), mask = align([items, items * 7])
    for row, got, side, real in zip(rows, aligned, sides, mask, strict=True):
        kept = [x for x in row if x > 0]
        assert got[real].tolist() == kept and side[real].tolist() == [7 * x for x in kept]
        assert (got[~real] == 0).all() and real.tolist() == sorted(real.tolist(), reverse=True)
    assert mask.size(1) == max(sum(x > 0 for x in row) for row in rows)
