import datetime as dt
from collections import Counter

import numpy as np
import pytest

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.dataset.samples import protocols
from dien_fuxictr.dataset.samples.build_options import BuildOptions
from dien_fuxictr.dataset.samples.protocols import DAY, TEST, TRAIN, UNUSED, VALID


def places(counts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """user, event and events of users with so many behaviours."""
    user = np.repeat(np.arange(len(counts)), counts)
    return user, np.concatenate([np.arange(count) for count in counts]), np.repeat(counts, counts)


def last(counts: list[int], folds: int = 10, fold: int = 0, seed: int = 0) -> np.ndarray:
    return protocols.last(*places(counts), folds, fold, np.random.default_rng(seed))


def test_last_takes_one_behaviour_and_splits_users() -> None:
    counts = (np.arange(1000) % 4 + 1).tolist()
    _, event, events = places(counts)
    split = last(counts)
    assert np.array_equal(split != UNUSED, event == events - 1)
    assert Counter(split[split != UNUSED].tolist()) == {TRAIN: 810, VALID: 90, TEST: 100}


@pytest.mark.parametrize(("users", "folds"), [(1000, 10), (103, 10), (17, 3), (12, 2)])
def test_folds_partition_the_users(users: int, folds: int) -> None:
    splits = [last([1] * users, folds, fold) for fold in range(folds)]
    tested = [np.flatnonzero(split == TEST) for split in splits]
    assert sorted(np.concatenate(tested).tolist()) == list(range(users))
    for split, test in zip(splits, tested, strict=True):
        assert abs(len(test) - users / folds) < 1
        assert (split == VALID).sum() == round((users - len(test)) * 0.1)
        assert (split == TRAIN).sum() == users - len(test) - (split == VALID).sum()


def test_users_are_split_at_random_from_the_seed() -> None:
    counts = [1] * 500
    assert np.array_equal(last(counts), last(counts))
    assert not np.array_equal(last(counts), last(counts, seed=1))
    halves = (last(counts) == TEST).reshape(2, -1).sum(axis=1)
    assert halves.min() > 10  # 25 expected in each half of the users


@pytest.mark.parametrize(("folds", "fold"), [(10, 10), (1, 0), (5, -1)])
def test_a_fold_that_does_not_exist(folds: int, fold: int) -> None:
    with pytest.raises(UserError, match=f"fold {fold} of {folds} folds: there must be 2 folds or more"):
        last([1] * 20, folds, fold)


def test_leave_one_out() -> None:
    _, event, events = places([1, 2, 5])
    assert protocols.leave_one_out(event, events).tolist() == [TEST, VALID, TEST, TRAIN, TRAIN, TRAIN, VALID, TEST]


def test_leave_more_than_one_out() -> None:
    """Use the latest events of a user with few for the test, then for validation."""
    _, event, events = places([1, 2, 3, 6])
    expected = [TEST, TEST, TEST, VALID, TEST, TEST, TRAIN, TRAIN, VALID, VALID, TEST, TEST]
    assert protocols.leave_one_out(event, events, test_last=2).tolist() == expected


def test_cut_offs_in_time() -> None:
    time = np.array([0, 99, 100, 199, 200, 10_000])
    assert protocols.by_time(time, 100, 200).tolist() == [TRAIN, TRAIN, VALID, VALID, TEST, TEST]
    given = {"source": "amazon", "reviews": "r", "meta": "m", "protocol": "time"}
    for valid_from, test_from in (("2024-03-08", "2024-03-01"), ("2024-03-01", "20240301")):
        with pytest.raises(UserError, match=f"valid_from = {valid_from} must be before test_from = {test_from}$"):
            protocols.cut_offs(BuildOptions.of(given | {"valid_from": valid_from, "test_from": test_from}))


def test_window_counts_whole_days_from_the_last() -> None:
    time = np.arange(0, 20 * DAY, DAY // 4) + 3600
    split = protocols.window(time, target_days=10, valid_days=2, test_days=3)
    expected = []
    for moment in time.tolist():
        age = 19 - moment // DAY
        expected.append(TEST if age < 3 else VALID if age < 5 else TRAIN if age < 10 else UNUSED)
    assert split.tolist() == expected
    assert Counter(expected) == {UNUSED: 40, TRAIN: 20, VALID: 8, TEST: 12}


@pytest.mark.parametrize("days", [(3, 2, 1), (10, 0, 1), (10, 1, 0)])
def test_a_window_without_a_split(days: tuple[int, int, int]) -> None:
    with pytest.raises(UserError, match=f"target_days {days[0]} must exceed valid_days {days[1]}"):
        protocols.window(np.array([0]), *days)


def test_histories_are_the_latest_behaviours_before_the_row() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 10, 200)
    end = first + rng.integers(0, 10, 200)
    earliest = first + rng.integers(0, 12, 200)
    start, length = protocols.history_ranges(first, end, earliest, 4)
    for row in range(200):
        expected = [place for place in range(first[row], end[row]) if place >= earliest[row]][-4:]
        assert list(range(start[row], start[row] + length[row])) == expected


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2014-01-31", 1_391_126_400),
        (dt.date(2014, 1, 31), 1_391_126_400),
        ("1391126400", 1_391_126_400),
        (1_391_126_400, 1_391_126_400),
        ("-5", -5),
        ("2014-01-31 12:00:00", 1_391_169_600),
        ("2014-01-31T12:00:00+02:00", 1_391_162_400),
        (dt.datetime(2014, 1, 31, 12), 1_391_169_600),
    ],
)
def test_times_of_options(value: object, seconds: int) -> None:
    assert protocols.parse_time(value, "valid_from") == seconds


@pytest.mark.parametrize("value", ["soon", "2014-13-01", "²", ""])
def test_no_times_of_options(value: str) -> None:
    with pytest.raises(UserError, match=f"valid_from = {value!r} must be a date such as 2014-01-31 or seconds"):
        protocols.parse_time(value, "valid_from")
