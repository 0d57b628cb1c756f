"""Draw results of other programs, written with --json, as FOLDER/NAME.png.

NAME is the program's. There are pictures of train_step and inference (samples/s), vocabulary (time and memory) and
serving (p99 against the rate of requests).
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.common.pictures import default_style

from .entries import OURS
from .report import Row
from .serving.load import P99

Tables = dict[str, list[Row]]
STYLE = {"font.size": 8, "axes.titlesize": 9, "axes.titleweight": "bold"}
"""For pictures that a page shows at about 9 inches' width."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw; return an exit code, 2 for a wrong file or without matplotlib."""
    return draw("benchmarks.draw", __doc__ or "", PICTURES, arguments)


def draw(
    program: str, description: str, pictures: Mapping[str, Callable[[Tables], Any]], arguments: Sequence[str] | None
) -> int:
    """Run a program that draws results of other programs; return its exit code.

    Args:
        program: its module.
        description: for --help.
        pictures: program -> the figure of its tables.
        arguments: the command line; None: the process's.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="JSON", help="files that other programs wrote with --json"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for the pictures; created if missing"
    )
    options = parser.parse_args(arguments)

    def run() -> int:
        for file in options.files:
            program, tables = read(file, pictures)
            options.out.mkdir(parents=True, exist_ok=True)
            with default_style(STYLE):
                pictures[program](tables).savefig(options.out / f"{program}.png", dpi=180)
            print(options.out / f"{program}.png")
        return 0

    return run_command(run, "interrupted")


def read(file: Path, pictures: Collection[str]) -> tuple[str, Tables]:
    """Return the program that wrote a file, and its tables.

    Raises:
        UserError: no such file, or none of a program that has a picture.
    """
    try:
        report = json.loads(file.read_text())
        program, tables = report["program"], report["tables"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is not a file that a benchmark wrote with --json") from error
    if program not in pictures:
        raise UserError(f"{file}: {program} has no picture; programs with a picture are {', '.join(pictures)}")
    return program, tables


def color(number: int) -> tuple[float, float, float, float]:
    """Return the colour of a place, equal in every panel."""
    from matplotlib import colormaps

    return colormaps["tab20"]((2 * number + number // 10) % 20)  # the dark shades come first


def panels(count: int, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes, two side by side.

    Frames have no upper and right side, which values touch.
    """
    from matplotlib.figure import Figure

    rows = -(-count // 2)
    figure = Figure(figsize=(4.5 * min(count, 2), height * rows), layout="constrained")
    axes = figure.subplots(rows, min(count, 2), squeeze=False)
    for place in axes.flatten():
        place.spines[["top", "right"]].set_visible(False)
        place.set_axisbelow(True)
    for place in axes.flatten()[count:]:
        place.remove()
    return figure, axes.flatten()[:count]


def draw_rates(tables: Tables) -> Any:
    """Draw samples/s of each system, with one panel per batch.

    Systems that compute equal work are grouped.
    """
    races = {title: rows for title, rows in tables.items() if "system" in rows[0] and "samples/s" in rows[0]}
    works = list(dict.fromkeys(row["work"] for rows in races.values() for row in rows))
    longest = max(len(rows) for rows in races.values())
    figure, axes = panels(len(races), 0.4 + 0.17 * (longest + len(works)))
    for place, (title, rows) in zip(axes, races.items(), strict=True):
        names: list[str] = []
        bars: list[tuple[int, float, Any]] = []
        for work in works:
            names.append(work)
            for row in (row for row in rows if row["work"] == work):
                bars.append((len(names), row["samples/s"], _of_system(row["system"])))
                names.append(row["system"])
        heights, rates, colors = zip(*bars, strict=True)
        drawn = place.barh(heights, rates, color=colors, height=0.7)
        place.bar_label(drawn, [f"{rate:,.0f}" for rate in rates], padding=3)
        place.set_yticks(range(len(names)), names)
        for label in place.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() in works else "normal")
        place.tick_params(length=0)
        place.set_title(title, loc="right")
        place.set(xlim=(0, 1.25 * max(rates)), ylim=(len(names) - 0.4, -0.6))
        place.xaxis.set_visible(False)
        place.spines.bottom.set_visible(False)
    figure.supxlabel("samples/s", fontsize="medium")
    return figure


def _of_system(name: str) -> Any:
    """Return the colour of a system: blue for this project's, grey for others.

    The blue is light if the system repeats the history for each candidate.
    """
    return color(0) if name.startswith(OURS) else color(10) if OURS in name else "0.65"


def draw_vocabulary(tables: Tables) -> Any:
    """Draw step time and peak memory against the number of items, dense and sparse."""
    (rows,) = tables.values()
    figure, axes = panels(2, 3.8)
    for place, column in zip(axes, ("step, ms", "peak memory, GB"), strict=True):
        for number, updates in enumerate(dict.fromkeys(row["updates"] for row in rows)):
            points = sorted((row["items"], row[column]) for row in rows if row["updates"] == updates)
            place.plot(*zip(*points, strict=True), marker="o", label=updates, color=color(number))
        place.set(xscale="log", xlabel="items", title=column)
        place.grid(alpha=0.3)
    for place in axes:
        place.set_ylim(bottom=0)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, title="embedding_updates")
    return figure


def draw_serving(tables: Tables) -> Any:
    """Draw p99 against the rate of requests, with one panel per kind of times."""
    rows = tables["Latency against the rate"]
    names, kinds = (list(dict.fromkeys(row[key] for row in rows)) for key in ("served", "times"))
    figure, axes = panels(len(kinds), 3.4)
    for place, kind in zip(axes, kinds, strict=True):
        for number, name in enumerate(names):
            points = [
                (row["requests/s"], row["p99, ms"]) for row in rows if (row["served"], row["times"]) == (name, kind)
            ]
            place.plot(*zip(*points, strict=True), marker="o", label=name, color=color(number))
        place.axhline(P99, color="0.6", linestyle="--")
        place.annotate(f"{P99:g} ms", (1, P99), (0, 3), place.get_yaxis_transform(), "offset points", ha="right")
        place.set(yscale="log", xlabel="requests/s", ylabel="p99, ms", title=f"{kind} times")
        place.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        place.yaxis.set_major_formatter("{x:,g}")
        place.minorticks_off()
        place.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


PICTURES: dict[str, Callable[[Tables], Any]] = {
    "train_step": draw_rates,
    "inference": draw_rates,
    "vocabulary": draw_vocabulary,
    "serving": draw_serving,
}

if __name__ == "__main__":
    sys.exit(main())
