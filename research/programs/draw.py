"""Draw results of this folder's programs, written with --json.

The pictures are FOLDER/NAME.png, NAME the program's. There are pictures of lengths (cost against max_len and against
behaviours), breakdown (time by parts) and pareto (AUC against the time of a request).
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.draw import Tables, color, draw, panels
from dien_fuxictr.common.pictures import MODEL_STYLES, OTHERS

from .breakdown import COLUMNS

ENDINGS = {
    "_light_no_aux": "light network, no auxiliary loss",
    "_light": "light network alone",
    "_booster": "large network (booster)",
    "_distilled": "light, distilled from a trained booster",
    "_both": "light beside a booster, shared_gradient: both",
    "_blocked": "light beside a booster, shared_gradient: booster",
    "_no_hint": "light beside a booster, no hint loss",
}
"""End of an experiment's id -> what it is."""


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


def draw_pareto(tables: Tables, title: str = "Test AUC, and processor time per request") -> Any:
    """Draw the test AUC and the request time of each experiment.

    Experiments with equal numbers of parameters serve equal networks: they have one time, the lowest of theirs, and
    stand together.
    """
    from matplotlib.figure import Figure

    longest = max(map(len, tables.values()))
    figure = Figure(figsize=(6.6, 0.4 + (0.7 + 0.22 * longest) * len(tables)), layout="constrained")
    for place, (name, rows) in zip(figure.subplots(len(tables), squeeze=False)[:, 0], tables.items(), strict=True):
        ms: dict[int, float] = {}
        for row in rows:
            ms[row["parameters"]] = min(row["ms"], ms.get(row["parameters"], row["ms"]))
        auc = {row["experiment"]: [float(part) for part in row["test AUC"].split(" ± ")] for row in rows}
        order = sorted(rows, key=lambda row: (ms[row["parameters"]], -auc[row["experiment"]][0]))
        for number, row in enumerate(order):
            mean, *deviation = auc[row["experiment"]]
            style = MODEL_STYLES.get(row["experiment"].partition("_")[0])
            place.errorbar(mean, number, xerr=deviation or None, fmt="o", color=style.color if style else OTHERS)
        place.set_yticks(range(len(order)), [_in_words(row["experiment"]) for row in order])
        place.set(xlabel="test AUC, mean ± standard deviation", ylim=(len(order) - 0.5, -0.5))
        place.set_title(Path(name).name, loc="left")
        times = place.secondary_yaxis("right")
        times.set_yticks(range(len(order)), [f"{ms[row['parameters']]:.3g} ms" for row in order])
        times.tick_params(length=0)
        times.spines["right"].set_visible(False)
        place.grid(axis="x", alpha=0.3)
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    return figure


def _in_words(experiment: str) -> str:
    """Return what an experiment of rocket_launching.md is, or its id."""
    return next((words for ending, words in ENDINGS.items() if experiment.endswith(ending)), experiment)


PICTURES: dict[str, Callable[[Tables], Any]] = {
    "lengths": draw_lengths,
    "breakdown": draw_breakdown,
    "pareto": draw_pareto,
}

if __name__ == "__main__":
    sys.exit(main())
