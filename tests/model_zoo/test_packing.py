"""Packing: real steps of padded rows in order, and computations over them."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from model_zoo.DIEN.src.layers.packing import Packing, pack


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=1, max_size=4))
def test_pack_takes_the_real_steps_in_order(rows):
    items = torch.tensor(rows)
    (packed, sides), packing = pack([items, 3 - items])  # only the first field decides which steps are real
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
