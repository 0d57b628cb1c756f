"""Pictures of a report, drawn by matplotlib as SVG inside its page."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from dien_fuxictr.common.pictures import COLORS, DASHES, MODEL_STYLES, OTHERS, LineStyle, default_style

from .results_table import Row
from .slices import Slices
from .statistics import Interval, mean_auc, score_runs, users_of

SHOWN = 8
"""So many rows are in the pictures at first; a reader of the page chooses others."""
FIRST_MODELS = ("DIEN", "DIN")
"""Whose best rows are among these."""
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
    "svg.hashsalt": "report",  # equal results give equal files
}
LINE: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.5}
NOT_SHOWN = "off"
"""Class of what is in a picture, but not shown at first."""
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
    "loss/target": (
        "Training loss",
        "Loss of the predictions alone, without auxiliary loss and regularisation: mean over the runs.",
    ),
    "loss/auxiliary": ("Auxiliary loss", "Loss of predicting the next behaviour, in training: mean over the runs."),
    "validation/AUC": ("Validation AUC", "AUC on the validation rows at each evaluation: mean over the runs."),
}

Results = Mapping[str, Sequence[dict[str, Any]]]
Predictions = Mapping[str, Sequence[dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        title: what it shows. note: how to read it.
        svg: an element for a page.
    """

    title: str
    note: str
    svg: str


def choose_styles(rows: Sequence[Row], results: Results) -> dict[str, LineStyle]:
    """Choose the rows that pictures can show, and their styles.

    The first `SHOWN` rows are visible at first. The order is: the base, the best DIEN and DIN, the best of each other
    model, then the best of the rest, by validation: the best of many on the test set would also be a lucky one. A
    model's first row has the model's own style; further rows have its colour while there are dashes. There are no more
    rows than different styles.

    Args:
        rows: rows of the table.
        results: name of a row -> result.json of each of its runs.
    """

    def validation(row: Row) -> float:
        return float(np.mean([run["valid"]["AUC"] for run in results[row.expid]]))

    best = [row.expid for row in sorted(rows, key=validation, reverse=True)]
    of_model: dict[str, str] = {}
    for expid in best:
        of_model.setdefault(results[expid][0]["model"], expid)
    base = [row.expid for row in rows if row.verdict == "base"]
    first = [of_model[model] for model in FIRST_MODELS if model in of_model]
    chosen = list(dict.fromkeys([*base, *first, *of_model.values(), *best]))
    kept = [MODEL_STYLES[model].color for model in FIRST_MODELS]
    free = [LineStyle(color, dash) for dash in DASHES for color in COLORS]
    free.sort(key=lambda style: style.color in kept)  # others take these two colours last
    styles: dict[str, LineStyle] = {}
    owners = [expid for model, expid in of_model.items() if model in MODEL_STYLES]
    for expid in dict.fromkeys([*owners, *chosen]):
        own = MODEL_STYLES.get(results[expid][0]["model"])
        wanted = [own, *(LineStyle(own.color, dash) for dash in DASHES)] if own else []
        if style := next((style for style in [*wanted, *free] if style in free), None):
            free.remove(style)
            styles[expid] = style
    return {expid: styles[expid] for expid in chosen if expid in styles}


def draw_report(
    rows: Sequence[Row],
    styles: Mapping[str, LineStyle],
    results: Results,
    predictions: Predictions,
    slices: Sequence[Slices],
) -> list[Picture]:
    """Draw test AUC, also by slices, learning curves and calibration.

    Args:
        rows: rows of the table.
        styles: result of `choose_styles`; all pictures but the first have only these rows.
        results: as for `results_table.make_rows`.
        predictions: as for `results_table.make_rows`.
        slices: partitions of the test rows.

    Raises:
        UserError: matplotlib is not installed.
    """
    with default_style(STYLE):
        curves = [draw_curve(name, styles, results) for name in CURVES]
        return [
            draw_auc(rows, styles),
            *(draw_slices(partition, styles, predictions) for partition in slices),
            *(curve for curve in curves if curve),
            draw_calibration(styles, predictions),
        ]


def draw_auc(rows: Sequence[Row], styles: Mapping[str, LineStyle]) -> Picture:
    """Draw the test AUC of each row with its standard deviation, the best on top."""
    width = max(WIDTH, 0.6 * WIDTH + LETTER * max(len(row.expid) for row in rows))
    picture = _Drawing(width, max(HEIGHT, 0.6 + ROW * len(rows)))
    style = {"elinewidth": 1.2, "marker": "o", "markersize": 5}
    for number, row in enumerate(rows):
        color, std = styles[row.expid].color if row.expid in styles else OTHERS, row.auc_std
        line = picture.axes.errorbar(row.auc, number, xerr=std, color=color, **style)[0]
        picture.name([line], f"{row.expid}: {row.auc:.4f}" + (f" ± {std:.4f}" if std else ""))
    picture.axes.set_yticks(range(len(rows)), [row.expid for row in rows])
    picture.axes.set_ylim(len(rows) - 0.5, -0.5)
    picture.axes.tick_params(axis="y", length=0)
    picture.axes.grid(visible=False, axis="y")
    note = "All rows, the best on top: mean ± standard deviation over the runs."
    return picture.finish("Test AUC", note, "test AUC")


def mean_curve(runs: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return a learning curve, the mean over the runs that got as far.

    Args:
        runs: result.json of each.
        name: name of the values in the points of a curve.
    """
    curves = [[point[name] for point in run["curve"] if name in point] for run in runs]
    return [
        float(np.mean([curve[place] for curve in curves if len(curve) > place]))
        for place in range(max(map(len, curves)))
    ]


def draw_curve(name: str, styles: Mapping[str, LineStyle], results: Results) -> Picture | None:
    """Draw a learning curve of `CURVES`; None if no run has such values."""
    curves = {expid: mean_curve(results[expid], name) for expid in styles}
    if not any(curves.values()):
        return None
    picture = _Drawing()
    for number, (expid, values) in enumerate(curves.items()):
        line = picture.axes.plot(range(1, len(values) + 1), values, **_line_of(styles[expid]))
        picture.name(line, expid, number)
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


def draw_calibration(styles: Mapping[str, LineStyle], predictions: Predictions) -> Picture:
    """Draw the observed against the predicted click rate, all runs of a row together."""
    picture = _Drawing()
    for number, (expid, style) in enumerate(styles.items()):
        rows = {name: np.concatenate([run[name] for run in predictions[expid]]) for name in ("label", "score")}
        line = picture.axes.plot(*calibration(**rows), **_line_of(style))
        picture.name(line, expid, number)
    x, y = picture.axes.get_xlim(), picture.axes.get_ylim()
    ends = max(x[0], y[0]), min(x[1], y[1])
    picture.axes.plot(ends, ends, color=OTHERS, linestyle="--", linewidth=1, zorder=1)
    note = f"Observed and predicted click rate in {BINS} equal bins of the test rows; on the dashed line they agree."
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


def draw_slices(slices: Slices, styles: Mapping[str, LineStyle], predictions: Predictions) -> Picture:
    """Draw the test AUC of each part with its interval, unless that is too wide."""
    picture = _Drawing()
    for number, (expid, style) in enumerate(styles.items()):
        aucs = slice_aucs(predictions[expid], slices)
        x = np.arange(len(aucs)) + APART * (number % SHOWN - (SHOWN - 1) / 2)
        ends = [[np.nan if end is None else abs(end - auc.mean) for auc in aucs for end in [auc.low]]]
        ends += [[np.nan if end is None else abs(end - auc.mean) for auc in aucs for end in [auc.high]]]
        mean = [auc.mean for auc in aucs]
        line, _, bars = picture.axes.errorbar(x, mean, yerr=ends, elinewidth=0.9, **_line_of(style))
        picture.name([line, *bars], expid, number)
    picture.axes.set_xticks(range(len(slices.names)), slices.names)
    note = (
        "Mean over the runs in parts of the test rows, with 95 % intervals of users and runs. A part without a bar has "
        "not enough seeds or users."
    )
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
        self._names: list[tuple[str, int | None]] = []

    def name(self, artists: Sequence[Any], text: str, number: int | None = None) -> None:
        """Let the mouse find a text at a line, and the page show and hide it.

        Args:
            artists: the line and its bars.
            text: what the mouse finds.
            number: of its row among those of the pictures; None: it is always shown.
        """
        for artist in artists:
            artist.set_gid(f"named{len(self._names)}")
            self._names.append((text, number))

    def finish(self, title: str, note: str, x: str) -> Picture:
        """Return the picture, with the name of its x axis."""
        self.axes.set_xlabel(x)
        output = io.StringIO()
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        self._figure.savefig(output, format="svg", transparent=True, metadata=metadata)
        return Picture(title=title, note=note, svg=_inline(output.getvalue(), title, self._names))


def _line_of(style: LineStyle) -> dict[str, Any]:
    return {**LINE, "color": style.color, "linestyle": style.dash}


def _inline(svg: str, title: str, names: Sequence[tuple[str, int | None]]) -> str:
    """Return a file of matplotlib as an element of a page.

    The element has no ids but those that it refers to, and black is the colour of the page's text.

    Args:
        svg: the file.
        title: text for readers who cannot see the picture.
        names: of each line its text and the number of its row, see `_Drawing.name`.
    """
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg[svg.index("<svg") :])
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1).replace("#000000", "currentColor")
    for place, (name, number) in enumerate(names):
        row = "" if number is None else f' data-row="{number}"'
        hidden = f' class="{NOT_SHOWN}"' if number is not None and number >= SHOWN else ""
        svg = svg.replace(f'<g id="named{place}">', f"<g{row}{hidden}><title>{escape(name)}</title>")
    referred = set(re.findall(r"#(\w+)", svg))
    return re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in referred else "", svg)
