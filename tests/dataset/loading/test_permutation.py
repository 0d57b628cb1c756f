import numpy as np
import pytest

from dien_fuxictr.dataset.loading.loader import Permutation


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 1000, 1024, 65_537])
def test_every_number_comes_once_from_any_start(size: int) -> None:
    order = Permutation(size, 1)[np.arange(size)]
    assert np.array_equal(np.sort(order), np.arange(size))
    half = size // 2
    assert np.array_equal(Permutation(size, 1)[np.arange(half, size)], order[half:])


def test_a_seed_is_an_order_and_orders_look_random() -> None:
    size = 20_000
    one, other = (Permutation(size, seed)[np.arange(size)] for seed in (1, 2))
    assert np.array_equal(one, Permutation(size, 1)[np.arange(size)])
    for order in (one, other, one[other]):
        assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.03
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.03
    # Neighbours in a batch are as far apart as random rows: a third of the range on average.
    assert abs(np.abs(np.diff(one)).mean() / size - 1 / 3) < 0.01


def test_the_order_of_a_seed_stays() -> None:
    """A run that is taken up by a later version sees the rows that are left."""
    assert Permutation(1000, 1)[np.arange(8)].tolist() == [841, 169, 627, 482, 941, 392, 16, 501]
