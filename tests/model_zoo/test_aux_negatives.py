"""Negatives of the auxiliary loss: of the batch and of the catalogue."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_zoo.DIEN.src.aux_negatives import BatchPool, Catalogue, draw_against, read_catalogue
from model_zoo.DIEN.src.layers.packing import pack


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=5), st.integers(0, 9))
def test_batch_negatives_are_observed_tuples(rows, seed):
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


def test_catalogue_draws_behaviours_by_frequency(tmp_path):
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
