"""This project's figures as multiples of others', from the rows of one comparison."""

from collections.abc import Collection, Sequence

from .entries import OURS
from .report import Row
from .systems import Work


def beside_peers(
    rows: Sequence[Row], value: str, work: Work, peers: Collection[Work], best_first: bool = True
) -> list[Row]:
    """A row a peer: its value, and this project's over it, backend by backend.

    Args:
        rows: of systems, with `system`, `work` and the value. value: its header.
        work: what this project's systems compute. peers: what a peer may compute to stand beside them.
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
