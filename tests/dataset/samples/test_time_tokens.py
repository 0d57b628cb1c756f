import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from dien_fuxictr.dataset.samples.protocols import DAY
from dien_fuxictr.dataset.samples.sampling import time_tokens


def plain(rows: list[tuple[int, int]], session_gap: int) -> list[tuple[str, str]]:
    """One behaviour after the other."""
    tokens, counts, before = [], [0, 0], None
    for user, time in rows:
        if before is None or before[0] != user:
            counts = [0, 0]
        else:
            counts[0] += time - before[1] > session_gap
            counts[1] += time // DAY > before[1] // DAY
        tokens.append(tuple(str(count % 10 + 1) for count in counts))
        before = (user, time)
    return tokens


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40 * DAY)), max_size=40), st.sampled_from([0, 1800, 7 * DAY])
)
def test_tokens(rows: list[tuple[int, int]], session_gap: int) -> None:
    rows = sorted(rows)
    behaviours = pl.DataFrame(rows, {"user_id": pl.Int64, "time": pl.Int64}, orient="row").cast({"user_id": pl.String})
    assert time_tokens(behaviours, session_gap).rows() == plain(rows, session_gap)


def test_a_session_may_span_midnight_and_a_day_hold_sessions() -> None:
    times = [0, 1800, 3601, DAY - 900, DAY + 900, *(30 * DAY * month for month in range(1, 10))]
    tokens = time_tokens(pl.DataFrame({"user_id": ["u"] * len(times), "time": times}), session_gap=1800)
    assert tokens["session_history"].to_list() == ["1", "1", "2", "3", "3", *map(str, range(4, 11)), "1", "2"]
    assert tokens["day_history"].to_list() == ["1", "1", "1", "1", "2", *map(str, range(3, 11)), "1"]
