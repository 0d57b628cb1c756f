"""Draw results of this folder's programs, written with --json.

The pictures are FOLDER/NAME.png, NAME the program's. There are pictures of lengths (cost against max_len and against
behaviours), breakdown (time by parts) and pareto (AUC against the time of a request).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.draw import Tables, color, draw, panels

from .breakdown import COLUMNS


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; return an exit code, 2 for a wrong file or without matplotlib."""
    return draw("research.programs.draw", __doc__ or "", PICTURES, arguments)


def draw_lengths(tables: Tables) -> Any:
    """Draw a step's time against max_len, and against the number of behaviours.

    The latter is for this project's backends.
    """
    figure, (by_max_len, by_behaviours) = panels(2, 4.2)
    *backends, (_, rows) = tables.items()
    for number, name in enumerate(dict.fromkeys((row["system"], row["work"]) for row in rows)):
        points = [(row["max_len"], row["ms"]) for row in rows if (row["system"], row["work"]) == name]
        by_max_len.plot(*zip(*points, strict=True), marker=".", label=", ".join(name), color=color(number))
    for number, (title, cases) in enumerate(backends):
        points = [(row["behaviours"], row["ms"]) for row in cases]
        by_behaviours.scatter(*zip(*points, strict=True), label=title.split(", ")[-1], color=color(number))
    cases = [row for _, cases in backends for row in cases]
    for behaviours in dict.fromkeys(row["behaviours"] for row in cases):
        name, *_ = (row["histories"] for row in cases if row["behaviours"] == behaviours)
        highest = max(row["ms"] for row in cases if row["behaviours"] == behaviours)
        by_behaviours.annotate(name, (behaviours, highest), (5, 4), textcoords="offset points")
    by_max_len.set(xscale="log", yscale="log", xlabel="max_len", title="the same histories")
    lengths = sorted({row["max_len"] for row in rows})
    by_max_len.set_xticks(lengths, lengths)
    by_max_len.minorticks_off()
    by_max_len.yaxis.set_major_formatter("{x:,g}")
    by_behaviours.set(xlabel="real behaviours of the batch", title="other histories")
    by_behaviours.set(xlim=(0, 1.2 * max(row["behaviours"] for row in cases)), ylim=(0, None))
    by_behaviours.xaxis.set_major_formatter("{x:,.0f}")
    for place in (by_max_len, by_behaviours):
        place.set_ylabel("ms of a training step")
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
        place.grid(alpha=0.3)
    return figure


def draw_breakdown(tables: Tables) -> Any:
    """Draw the parts of a step's time: one panel per batch, one bar per system."""
    figure, axes = panels(len(tables), 3.2)
    for place, (title, rows) in zip(axes, tables.items(), strict=True):
        left = [0.0] * len(rows)
        for number, part in enumerate(COLUMNS):
            widths = [row[part] for row in rows[::-1]]
            place.barh(range(len(rows)), widths, left=left, label=part, color=color(number))
            left = [sum(pair) for pair in zip(left, widths, strict=True)]
        names = [f"{row['system']}\n{row['work']}" for row in rows[::-1]]
        place.set_yticks(range(len(rows)), names)
        place.set(title=title, xlabel="ms")
        place.grid(axis="x", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def draw_pareto(tables: Tables) -> Any:
    """Draw test AUC, mean and standard deviation over seeds, against request time.

    Experiments with equal numbers of parameters serve equal networks: they are drawn side by side around the lowest of
    their times.
    """
    figure, axes = panels(len(tables), 3.8)
    for place, (title, rows) in zip(axes, tables.items(), strict=True):
        for number, row in enumerate(rows):
            same = [other for other in rows if other["parameters"] == row["parameters"]]
            aside = 1.07 ** (same.index(row) - (len(same) - 1) / 2)
            ms = aside * min(other["ms"] for other in same)
            auc = np.array(row["AUC"])
            deviation = auc.std(ddof=1) if len(auc) > 1 else 0
            place.errorbar(ms, auc.mean(), deviation, fmt="o", color=color(number), label=row["experiment"])
        place.set(title=Path(title).name, xlabel="ms of the processor, a request", ylabel="test AUC", xscale="log")
        place.xaxis.set_major_formatter("{x:,g}")
        place.xaxis.set_minor_formatter("{x:,g}")
        place.grid(alpha=0.3)
        place.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return figure


PICTURES: dict[str, Callable[[Tables], Any]] = {
    "lengths": draw_lengths,
    "breakdown": draw_breakdown,
    "pareto": draw_pareto,
}

if __name__ == "__main__":
    sys.exit(main())
