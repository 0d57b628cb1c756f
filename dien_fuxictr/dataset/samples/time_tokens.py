"""Times as integer tokens, from which a model can tell sessions and days apart."""

import polars as pl

from .protocols import DAY

CYCLE = 10
"""Tokens count up to it and begin again: neighbours differ, and training rows have seen every token."""


def time_tokens(behaviours: pl.DataFrame, session_gap: int) -> pl.DataFrame:
    """The session and the day (UTC) of each behaviour among its user's, counted 1, 2, ..., 10, 1, 2, ...

    Args:
        behaviours: user_id, time (seconds), sorted by both.
        session_gap: a session ends where the next behaviour is more than this many seconds later.

    Returns:
        `session_history` and `day_history` (String), a row a behaviour.
    """
    ends = {"session_history": pl.col("time").diff() > session_gap, "day_history": (pl.col("time") // DAY).diff() > 0}
    return behaviours.select(
        (end.fill_null(False).cum_sum().over("user_id") % CYCLE + 1).cast(pl.String).alias(name)
        for name, end in ends.items()
    )
