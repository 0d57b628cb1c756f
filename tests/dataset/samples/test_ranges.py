import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dien_fuxictr.dataset.samples.ranges import Occurrences, coverage, members

values_and_ranges = st.lists(st.integers(0, 5), max_size=12).flatmap(
    lambda values: st.tuples(
        st.just(values), st.lists(st.tuples(st.integers(0, len(values)), st.integers(0, len(values))).map(sorted))
    )
)


@settings(deadline=None)
@given(values_and_ranges)
def test_members_are_those_of_a_loop(case: tuple[list, list]) -> None:
    _, ranges = case
    start, end = np.array(ranges, np.int64).reshape(-1, 2).T
    rows, number = members(start, (end - start).astype(np.int32))
    expected = [(row, which) for which, span in enumerate(ranges) for row in range(*span)]
    assert list(zip(rows.tolist(), number.tolist(), strict=True)) == expected


@settings(deadline=None)
@given(values_and_ranges)
def test_coverage_is_that_of_a_loop(case: tuple[list, list]) -> None:
    values, ranges = case
    start, end = np.array(ranges, np.int64).reshape(-1, 2).T
    expected = [sum(first <= row < after for first, after in ranges) for row in range(len(values))]
    assert coverage(start, (end - start).astype(np.int32), len(values)).tolist() == expected


@settings(deadline=None)
@given(values_and_ranges, st.integers(0, 5))
def test_occurrences_are_those_of_a_loop(case: tuple[list, list], value: int) -> None:
    values, ranges = case
    start, end = np.array(ranges, np.int64).reshape(-1, 2).T
    occurrences = Occurrences(np.array(values, np.int64))
    expected = [value in values[slice(*span)] for span in ranges]
    assert occurrences.within(np.array(value), start, end - start).tolist() == expected
    grid = occurrences.within(np.arange(6)[:, None], start, end - start)
    assert grid.tolist() == [[each in values[slice(*span)] for span in ranges] for each in range(6)]
