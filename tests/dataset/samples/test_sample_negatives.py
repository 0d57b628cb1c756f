from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples.sample_negatives import (
    SAMPLERS,
    Forbidden,
    behaviour_negatives,
    first_rows,
    matched,
    popularity,
    swap,
    uniform,
)


def case(rows: int = 3000, items: int = 60, users: int = 100, histories: bool = False, seed: int = 0) -> Forbidden:
    """Return positives among behaviours of skewed popularity.

    A history contains the earlier behaviours in a block of fixed size.
    """
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(3, items + 3)
    item = rng.choice(items, size=rows, p=shares / shares.sum())
    item[:items] = np.arange(items)  # numbers without gaps
    first = np.arange(rows) // (rows // users) * (rows // users)
    positive = np.flatnonzero(rng.random(rows) < 0.7)
    start = np.maximum(first[positive], positive - 10)
    return Forbidden.build(item, positive, start, positive - start, histories)


def forbidden_by_loop(forbidden: Forbidden, negative: np.ndarray, histories: bool) -> list[bool]:
    item = forbidden.item.tolist()
    found = []
    for sample, (positive, start, length) in enumerate(
        zip(forbidden.positive, forbidden.start, forbidden.length, strict=True)
    ):
        banned = {item[positive]} | (set(item[start : start + length]) if histories else set())
        found.append(item[negative[sample]] in banned)
    return found


@pytest.mark.parametrize("histories", [True, False])
@pytest.mark.parametrize("name", SAMPLERS)
def test_never_the_positive_and_seeded(name: str, histories: bool) -> None:
    forbidden = case(histories=histories)
    negative = SAMPLERS[name](forbidden, np.random.default_rng(1))
    assert len(negative) == len(forbidden.positive) and not any(forbidden_by_loop(forbidden, negative, histories))
    assert np.array_equal(negative, SAMPLERS[name](forbidden, np.random.default_rng(1)))
    assert not np.array_equal(negative, SAMPLERS[name](forbidden, np.random.default_rng(2)))


@pytest.mark.parametrize("histories", [True, False])
def test_what_is_forbidden(histories: bool) -> None:
    forbidden = case(rows=400, items=12, users=20, histories=histories)
    negative = np.random.default_rng(0).integers(400, size=len(forbidden.positive))
    found = forbidden(np.arange(len(negative)), negative).tolist()
    assert found == forbidden_by_loop(forbidden, negative, histories) and any(found)


@pytest.mark.parametrize("histories", [True, False])
def test_matched_negatives_are_the_positives_in_another_order(histories: bool) -> None:
    forbidden = case(histories=histories)
    negative = matched(forbidden, np.random.default_rng(0))
    assert sorted(negative.tolist()) == forbidden.positive.tolist()


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=14), st.integers(0, 2**32), st.sampled_from([0, 2, 100]))
def test_matched_keeps_marginals_without_a_majority_item(items: list[int], seed: int, rounds: int) -> None:
    numbers = {item: number for number, item in enumerate(sorted(set(items)))}
    item = np.array([numbers[each] for each in items])
    rows = np.arange(len(items))
    forbidden = Forbidden.build(item, rows, rows * 0, rows * 0, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dien_fuxictr.dataset.samples.sample_negatives.ROUNDS", rounds)
        if len(numbers) == 1:
            with pytest.raises(UserError, match="no negative is left for some sample"):
                matched(forbidden, np.random.default_rng(seed))
            return
        negative = matched(forbidden, np.random.default_rng(seed))
    assert not any(forbidden_by_loop(forbidden, negative, False))
    if max(Counter(items).values()) * 2 <= len(items):
        assert sorted(negative.tolist()) == rows.tolist()


@pytest.mark.parametrize(
    ("partner", "expected"),
    [
        (1, [0, 3, 1, 2]),  # would get its own item, 0
        (2, [0, 3, 1, 2]),  # would give item 0 again
        (3, [2, 3, 1, 0]),
    ],
)
def test_a_swap_leaves_both_samples_allowed(partner: int, expected: list[int]) -> None:
    """Sample 0, whose item is 0, has item 0 for its negative."""
    samples = np.arange(4)
    forbidden = Forbidden.build(np.array([0, 0, 1, 2]), samples, samples * 0, samples * 0, False)
    negative = np.array([0, 3, 1, 2])
    swap(forbidden, negative, np.array([0]), np.array([partner]), np.empty(4, int))
    assert negative.tolist() == expected


def test_matched_warns_if_impossible(caplog: pytest.LogCaptureFixture) -> None:
    item = np.array([0, 0, 0, 0, 1, 2])
    rows = np.arange(6)
    negative = matched(Forbidden.build(item, rows, rows, rows * 0, False), np.random.default_rng(0))
    assert (item[negative] != item).all()
    assert "2 of 6 negatives could not be matched" in caplog.text


def frequencies(negative: np.ndarray, item: np.ndarray) -> np.ndarray:
    return np.bincount(item[negative], minlength=item.max() + 1) / len(negative)


@pytest.mark.parametrize(("sampler", "by_reviews"), [(popularity, True), (uniform, False)])
def test_how_often_an_item_is_drawn(sampler, by_reviews: bool) -> None:
    """Count draws for samples whose positive is a rare item.

    All other items are then drawn by their weights.
    """
    item = np.repeat(np.arange(6), [400, 200, 100, 100, 199, 1])
    positive = np.full(40_000, 999)
    forbidden = Forbidden.build(item, positive, positive, positive * 0, False)
    weights = np.array([400, 200, 100, 100, 199, 0] if by_reviews else [1, 1, 1, 1, 1, 0])
    expected = weights / weights.sum()
    drawn = frequencies(sampler(forbidden, np.random.default_rng(0)), item)
    deviation = np.sqrt(expected * (1 - expected) / len(positive))
    assert (np.abs(drawn - expected) <= 5 * deviation).all() and drawn[5] == 0


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_first_rows_are_found_a_part_at_a_time(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.samples.sample_negatives.AT_ONCE", at_once)
    assert first_rows(np.array([2, 0, 2, 0, 1, 3, 1])).tolist() == [1, 4, 0, 5]


def test_drawing_finds_the_last_allowed_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dien_fuxictr.dataset.samples.sample_negatives.ROUNDS", 1)
    item = np.array([*[0] * 500, 1])
    forbidden = Forbidden.build(item, np.arange(500), np.arange(500), np.zeros(500, int), False)
    assert popularity(forbidden, np.random.default_rng(0)).tolist() == [500] * 500


@pytest.mark.parametrize("sampler", [popularity, uniform])
def test_nothing_left_to_draw(sampler) -> None:
    forbidden = Forbidden.build(np.array([0, 1, 2]), np.array([2]), np.array([0]), np.array([2]), True)
    with pytest.raises(UserError, match="its positive and history are all the items there are"):
        sampler(forbidden, np.random.default_rng(0))


exposures = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=5, max_size=25
)


@settings(deadline=None)
@given(exposures, st.booleans(), st.integers(0, 2**32))
def test_negatives_of_behaviours(rows: list[tuple], with_requests: bool, seed: int) -> None:
    """Each row is a user, one of their requests, an item and whether it was clicked."""
    rows = sorted(rows, key=lambda row: row[:2])
    user, _, item, clicked = (np.array([row[part] for row in rows], int) for part in range(4))
    numbers = {request: number for number, request in enumerate(dict.fromkeys(row[:2] for row in rows))}
    request = np.array([numbers[row[:2]] for row in rows], int)
    clicks = np.flatnonzero(clicked)
    chosen = behaviour_negatives(
        clicks, item, clicked.astype(bool), user, request if with_requests else None, np.random.default_rng(seed)
    )
    for click, negative in zip(clicks.tolist(), chosen.tolist(), strict=True):
        passed = [
            row
            for row in range(len(rows))
            if user[row] == user[click] and not clicked[row] and item[row] != item[click]
        ]
        same = [row for row in passed if request[row] == request[click]] if with_requests else []
        before = [row for row in passed if row < click]
        assert negative in same if same else negative == (before or [-1])[-1]


def test_negatives_of_a_request_are_drawn_at_random() -> None:
    clicks, shown = 3000, 4
    request = np.repeat(np.arange(clicks), shown)
    clicked = np.tile([False, True, False, False], clicks)
    item = np.tile(np.arange(shown), clicks)
    chosen = behaviour_negatives(np.flatnonzero(clicked), item, clicked, request, request, np.random.default_rng(0))
    assert np.array_equal(request[chosen], np.arange(clicks))
    assert np.abs(frequencies(chosen, item) - np.array([1, 0, 1, 1]) / 3).max() < 5 * np.sqrt(2 / 9 / clicks)
