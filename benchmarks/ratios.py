"""Ratios of this project's figures to those of others, in one comparison's rows."""

from collections.abc import Collection, Sequence

from .entries import OURS
from .report import Row
from .systems import Work


def beside_peers(
    rows: Sequence[Row], value: str, work: Work, peers: Collection[Work], best_first: bool = True
) -> list[Row]:
    """Return one row per other project: its value, and this project's ratios to it.

    There is one ratio per backend.

    Args:
        rows: rows of systems, with `system`, `work` and the value.
        value: header of the value.
        work: work of this project's systems.
        peers: works of other projects that are compared with it.
        best_first: whether the largest value is the best and comes first; else the smallest.
    """
    ours = {
        row["system"].removeprefix(OURS): row[value]
        for row in rows
        if row["system"].startswith(OURS) and row["work"] == work.name
    }
    works = {peer.name for peer in peers}
    others = [row for row in rows if not row["system"].startswith(OURS) and row["work"] in works]
    return [
        {
            "peer": row["system"],
            "its work": row["work"],
            value: row[value],
            **{f"{backend} / peer": own / row[value] for backend, own in ours.items()},
        }
        for row in sorted(others, key=lambda row: row[value], reverse=best_first)
    ]
