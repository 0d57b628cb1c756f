"""Histories in a random order: what a model then still scores, it does not owe to their order."""

import numpy as np
import polars as pl

from .ranges import members

SPAN = ["history_start", "history_length"]


def shuffled(
    behaviours: pl.DataFrame, parts: list[pl.DataFrame], rng: np.random.Generator
) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """The same samples with each history in an order of its own, all properties of a behaviour together.

    Rows that have one history in common, as a positive and its negative do, have it in the same order.

    Args:
        behaviours: (M,) the table.
        parts: samples whose `history_start` and `history_length` refer to it.
        rng: of the orders.

    Returns:
        A table that holds a behaviour once for each history that it is part of, with `behaviour` (Int64), its row in
        the former table; and the parts, which refer to it.
    """
    spans = pl.concat([part.select(SPAN) for part in parts]).unique().sort(SPAN)
    length = spans["history_length"].to_numpy().astype(np.int64)
    rows, history = members(spans["history_start"].to_numpy(), length)
    rows = rows[np.lexsort((rng.random(len(rows)), history))]
    places = spans.with_columns(shuffled_start=np.cumsum(length) - length)
    moved = [
        part.join(places, on=SPAN, how="left", maintain_order="left")
        .with_columns(history_start="shuffled_start")
        .drop("shuffled_start")
        for part in parts
    ]
    return behaviours[rows].with_columns(behaviour=rows), moved
