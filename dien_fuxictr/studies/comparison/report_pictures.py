"""The pictures of a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .results_table import Row
from .slices import Slices
from .statistics import Interval, mean_auc, score_runs, users_of
from .svg import Point, column, lines

BINS = 10
CURVES = {
    "loss/target": ("Training loss", "of the predictions: without auxiliary loss and regularisation"),
    "loss/auxiliary": ("Auxiliary loss", "in training"),
    "validation/AUC": ("Validation AUC", ""),
}

Results = dict[str, list[dict[str, Any]]]
Predictions = dict[str, list[dict[str, np.ndarray]]]


@dataclass(frozen=True)
class Picture:
    """A plot.

    Attributes:
        title: what it shows. note: what else must be known.
        svg: see `svg`.
    """

    title: str
    note: str
    svg: str


def draw_all(
    rows: Sequence[Row], marks: Sequence[str], results: Results, predictions: Predictions, slices: Sequence[Slices]
) -> list[Picture]:
    """Test AUC, also by slices; learning curves, of which those that no run has are left out; calibration.

    Args:
        rows: of the table. marks: of each row, see `svg`.
        results, predictions: as of `table.make_rows`.
        slices: partitions of the test rows.
    """
    marked = dict(zip((row.expid for row in rows), marks, strict=True))
    curves = [draw_curve(marked, results, name) for name in CURVES]
    return [
        draw_auc(rows, marks),
        *(draw_slices(marked, predictions, partition) for partition in slices),
        *(curve for curve in curves if curve),
        draw_calibration(marked, predictions),
    ]


def draw_auc(rows: Sequence[Row], marks: Sequence[str]) -> Picture:
    """Test AUC of each system with its standard deviation, best on top."""
    values = []
    for row, mark in zip(rows, marks, strict=True):
        std = row.auc_std or 0
        text = f"{row.expid}: {row.auc:.4f}" + (f" ± {std:.4f}" if std else "")
        values.append((mark, row.expid, Point(row.auc, 0, text, (row.auc - std, row.auc + std) if std else None)))
    note = "mean ± standard deviation over the runs"
    return Picture("Test AUC", note, column(values, "Test AUC of each experiment", "test AUC"))


def draw_curve(marked: dict[str, str], results: Results, name: str) -> Picture | None:
    """A learning curve, mean over the seeds that got as far.

    Args:
        marked: experiment id -> mark.
        name: of the values in the points of a curve.

    Returns:
        None if no run has such values.
    """
    series = []
    for expid, mark in marked.items():
        curves = [[point[name] for point in run["curve"] if name in point] for run in results[expid]]
        means = [
            float(np.mean([curve[place] for curve in curves if len(curve) > place]))
            for place in range(max(map(len, curves)))
        ]
        named = [(number, mean, f"{expid}, evaluation {number}: {mean:.4f}") for number, mean in enumerate(means, 1)]
        series.append((mark, [Point(*point) for point in named]))
    longest = max(len(points) for _, points in series)
    if not longest:
        return None
    title, note = CURVES[name]
    every = -(-longest // 10)
    ticks = {float(number): f"{number}" for number in range(every, longest + 1, every)}
    return Picture(title, note, lines(series, title, "evaluation", ticks))


def calibration(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction and share of clicks in bins of equally many rows, (BINS,) each.

    Args:
        label: (N,) 0 or 1. score: (N,) predicted probabilities.
    """
    bins = np.array_split(np.argsort(score, kind="stable"), BINS)
    return np.array([score[rows].mean() for rows in bins]), np.array([label[rows].mean() for rows in bins])


def draw_calibration(marked: dict[str, str], predictions: Predictions) -> Picture:
    """Predicted against observed click rate, all seeds together."""
    series = []
    for expid, mark in marked.items():
        rows = {name: np.concatenate([run[name] for run in predictions[expid]]) for name in ("label", "score")}
        pairs = zip(*(values.tolist() for values in calibration(**rows)), strict=True)
        points = [Point(x, y, f"{expid}: predicted {x:.3f}, observed {y:.3f}") for x, y in pairs]
        series.append((mark, points))
    note = f"observed against predicted click rate, in {BINS} bins of equally many test rows, runs together"
    return Picture("Calibration", note, lines(series, "Calibration", "predicted click rate", diagonal=True))


def slice_aucs(runs: Sequence[dict[str, np.ndarray]], slices: Slices) -> list[Interval]:
    """Return the AUC of each part, mean over the runs, with its 95 % interval; NaN where a part has one class only."""
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


def draw_slices(marked: dict[str, str], predictions: Predictions, slices: Slices) -> Picture:
    """Test AUC of each part."""
    series = []
    for expid, mark in marked.items():
        points = []
        for number, auc in enumerate(slice_aucs(predictions[expid], slices)):
            ends = None if auc.low is None or auc.high is None else (auc.low, auc.high)
            points.append(Point(number, auc.mean, f"{expid}, {slices.names[number]}: {auc.text('.4f')}", ends))
        series.append((mark, points))
    title = f"Test AUC by {slices.title}"
    ticks = {float(number): name for number, name in enumerate(slices.names)}
    note = "mean over the runs, with 95 % intervals of test users and runs, as in the table"
    return Picture(title, note, lines(series, title, slices.title, ticks, apart=True))
