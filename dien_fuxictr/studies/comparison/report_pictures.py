"""The pictures of a report, drawn by matplotlib as SVG inside its page."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from dien_fuxictr.common.pictures import default_style

from .results_table import Row
from .slices import Slices
from .statistics import Interval, mean_auc, score_runs, users_of

COLORS = ("#0072b2", "#d55e00", "#009e73", "#b0478f", "#c98a00", "#3fa7dc", "#7a5c45", "#6d5bd0")
OTHERS = "#8a94a0"
"""The colour of rows that have none of their own."""
STYLE = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "black",  # see `_inline`
    "grid.alpha": 0.12,
    "svg.hashsalt": "report",  # the same results give the same file
}
LINE: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.5}
WIDTH, HEIGHT = 4.6, 2.9
"""Inches."""
ROW = 0.2
"""Inches of a row of the table in the picture of all."""
LETTER = 0.075
"""Inches of a letter."""
APART = 0.05
"""From one row to the next at the same place, so that their intervals do not hide each other."""
BINS = 10
CURVES = {
    "loss/target": ("Training loss", "of the predictions: without auxiliary loss and regularisation"),
    "loss/auxiliary": ("Auxiliary loss", "in training"),
    "validation/AUC": ("Validation AUC", ""),
}

Results = Mapping[str, Sequence[dict[str, Any]]]
Predictions = Mapping[str, Sequence[dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        title: what it shows. note: what else must be known.
        svg: an element to stand in a page.
    """

    title: str
    note: str
    svg: str


def choose_colors(rows: Sequence[Row], results: Results) -> dict[str, str]:
    """Return colours of the rows to show: the base, the best of each model, others.

    These are the base, of each model the best by validation, then the best of the rest. Not by test: the best of many
    by the test set is also one that was lucky there.

    Args:
        rows: of the table.
        results: name of a row -> result.json of each of its runs.
    """

    def validation(row: Row) -> float:
        return float(np.mean([run["valid"]["AUC"] for run in results[row.expid]]))

    best = [row.expid for row in sorted(rows, key=validation, reverse=True)]
    of_model: dict[str, str] = {}
    for expid in best:
        of_model.setdefault(results[expid][0]["model"], expid)
    base = [row.expid for row in rows if row.verdict == "base"]
    chosen = dict.fromkeys([*base, *of_model.values(), *best])
    return dict(zip(chosen, COLORS, strict=False))


def draw_report(
    rows: Sequence[Row],
    colors: Mapping[str, str],
    results: Results,
    predictions: Predictions,
    slices: Sequence[Slices],
) -> list[Picture]:
    """Draw test AUC, also by slices, learning curves and calibration.

    Args:
        rows: rows of the table.
        colors: result of `choose_colors`; all pictures but the first show only these rows.
        results: as for `results_table.make_rows`.
        predictions: as for `results_table.make_rows`.
        slices: partitions of the test rows.

    Raises:
        UserError: matplotlib is not installed.
    """
    with default_style(STYLE):
        curves = [draw_curve(name, colors, results) for name in CURVES]
        return [
            draw_auc(rows, colors),
            *(draw_slices(partition, colors, predictions) for partition in slices),
            *(curve for curve in curves if curve),
            draw_calibration(colors, predictions),
        ]


def draw_auc(rows: Sequence[Row], colors: Mapping[str, str]) -> Picture:
    """Draw the test AUC of each row with its standard deviation, the best on top."""
    width = max(WIDTH, 0.6 * WIDTH + LETTER * max(len(row.expid) for row in rows))
    picture = _Drawing(width, max(HEIGHT, 0.6 + ROW * len(rows)))
    style = {"elinewidth": 1.2, "marker": "o", "markersize": 5}
    for number, row in enumerate(rows):
        color, std = colors.get(row.expid, OTHERS), row.auc_std
        line = picture.axes.errorbar(row.auc, number, xerr=std, color=color, **style)[0]
        picture.name(line, f"{row.expid}: {row.auc:.4f}" + (f" ± {std:.4f}" if std else ""))
    picture.axes.set_yticks(range(len(rows)), [row.expid for row in rows])
    picture.axes.set_ylim(len(rows) - 0.5, -0.5)
    picture.axes.tick_params(axis="y", length=0)
    picture.axes.grid(visible=False, axis="y")
    return picture.finish("Test AUC", "mean ± standard deviation over the runs", "test AUC")


def mean_curve(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return a learning curve, the mean over the runs that got as far.

    Args:
        runs: result.json of each.
        name: of the values in the points of a curve.
    """
    curves = [[point[name] for point in run["curve"] if name in point] for run in runs]
    return [
        float(np.mean([curve[place] for curve in curves if len(curve) > place]))
        for place in range(max(map(len, curves)))
    ]


def draw_curve(name: str, colors: Mapping[str, str], results: Results) -> Picture | None:
    """Draw a learning curve of `CURVES`; None if no run has such values."""
    curves = {expid: mean_curve(results[expid], name) for expid in colors}
    if not any(curves.values()):
        return None
    picture = _Drawing()
    for expid, values in curves.items():
        (line,) = picture.axes.plot(range(1, len(values) + 1), values, color=colors[expid], **LINE)
        picture.name(line, expid)
    picture.axes.xaxis.get_major_locator().set_params(integer=True)
    return picture.finish(*CURVES[name], "evaluation")


def calibration(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean prediction and share of clicks in bins of equal size, (BINS,) each.

    Args:
        label: (N,) 0 or 1.
        score: (N,) predicted probabilities.
    """
    bins = np.array_split(np.argsort(score, kind="stable"), BINS)
    return np.array([score[rows].mean() for rows in bins]), np.array([label[rows].mean() for rows in bins])


def draw_calibration(colors: Mapping[str, str], predictions: Predictions) -> Picture:
    """Draw the observed against the predicted click rate, all runs of a row together."""
    picture = _Drawing()
    for expid, color in colors.items():
        rows = {name: np.concatenate([run[name] for run in predictions[expid]]) for name in ("label", "score")}
        (line,) = picture.axes.plot(*calibration(**rows), color=color, **LINE)
        picture.name(line, expid)
    x, y = picture.axes.get_xlim(), picture.axes.get_ylim()
    ends = max(x[0], y[0]), min(x[1], y[1])
    picture.axes.plot(ends, ends, color=OTHERS, linestyle="--", linewidth=1, zorder=1)
    note = f"observed against predicted click rate, in {BINS} bins of equally many test rows, runs together"
    return picture.finish("Calibration", note, "predicted click rate")


def slice_aucs(runs: Sequence[dict[str, np.ndarray]], slices: Slices) -> list[Interval]:
    """Return the AUC of each part with its interval; NaN if a class is missing."""
    parts = [slices.part == number for number in range(len(slices.names))]
    return [
        mean_auc(
            score_runs(
                [
                    {"label": run["label"][rows], "group": users_of(run)[rows], "score": run["score"][rows]}
                    for run in runs
                ]
            )
        )
        for rows in parts
    ]


def draw_slices(slices: Slices, colors: Mapping[str, str], predictions: Predictions) -> Picture:
    """Draw the test AUC of each part with its interval, unless that is too wide."""
    picture = _Drawing()
    for number, (expid, color) in enumerate(colors.items()):
        aucs = slice_aucs(predictions[expid], slices)
        x = np.arange(len(aucs)) + APART * (number - (len(colors) - 1) / 2)
        ends = [[np.nan if end is None else abs(end - auc.mean) for auc in aucs for end in [auc.low]]]
        ends += [[np.nan if end is None else abs(end - auc.mean) for auc in aucs for end in [auc.high]]]
        line = picture.axes.errorbar(x, [auc.mean for auc in aucs], yerr=ends, color=color, elinewidth=0.9, **LINE)[0]
        picture.name(line, expid)
    picture.axes.set_xticks(range(len(slices.names)), slices.names)
    note = "mean over the runs, with 95 % intervals of test users and runs, as in the table"
    return picture.finish(f"Test AUC by {slices.title}", note, slices.title)


class _Drawing:
    """A figure with one pair of axes.

    Args:
        width, height: in inches.
    """

    def __init__(self, width: float = WIDTH, height: float = HEIGHT) -> None:
        from matplotlib.figure import Figure

        self._figure = Figure(figsize=(width, height), layout="constrained")
        self.axes: Any = self._figure.subplots()
        self._names: list[str] = []

    def name(self, line: Any, text: str) -> None:
        """Let the mouse find a text at a line."""
        line.set_gid(f"named{len(self._names)}")
        self._names.append(text)

    def finish(self, title: str, note: str, x: str) -> Picture:
        """Return the picture, with the name of its x axis."""
        self.axes.set_xlabel(x)
        output = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self._figure.savefig(output, format="svg", transparent=True, metadata=metadata)
        return Picture(title=title, note=note, svg=_inline(output.getvalue(), title, self._names))


def _inline(svg: str, title: str, names: Sequence[str]) -> str:
    """Return a file of matplotlib as an element of a page.

    The element has no ids but those that it refers to, and black is the colour of the page's text.

    Args:
        svg: the file.
        title: for those who cannot see it.
        names: texts that the mouse finds, in the order of their lines.
    """
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1).replace("#000000", "currentColor")
    for number, name in enumerate(names):
        svg = svg.replace(f'<g id="named{number}">', f"<g><title>{escape(name)}</title>")
    referred = set(re.findall(r"#(\w+)", svg))
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", svg)
