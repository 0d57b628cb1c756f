"""The pictures of a comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from dien_fuxictr.common.pictures import default_style

from .slices import Slices
from .table import Row

BINS = 10
CURVES = {"loss/train": "training loss", "loss/auxiliary": "auxiliary loss", "validation/AUC": "validation AUC"}


def draw_all(
    rows: Sequence[Row],
    results: dict[str, list[dict[str, Any]]],
    predictions: dict[str, list[dict[str, np.ndarray]]],
    slices: Sequence[Slices],
    folder: Path,
) -> None:
    """Write auc.png, learning_curves.png, calibration.png and, where there are slices, auc_by_slice.png.

    Args:
        rows: of the table. results, predictions: as of `comparison.table.make_rows`.
        slices: partitions of the test rows.
        folder: exists.

    Raises:
        UserError: matplotlib is not installed.
    """
    order = [row.expid for row in rows]
    ordered = {expid: predictions[expid] for expid in order}
    with default_style():
        draw_auc(rows, folder / "auc.png")
        draw_curves({expid: results[expid] for expid in order}, folder / "learning_curves.png")
        draw_calibration(ordered, folder / "calibration.png")
        if slices:
            draw_slices(ordered, slices, folder / "auc_by_slice.png")


def color(number: int) -> tuple[float, float, float, float]:
    """Of the system with that place in the table, the same in every picture."""
    from matplotlib import colormaps

    return colormaps["tab20"]((2 * number + number // 10) % 20)  # its dark shades first


def draw_auc(rows: Sequence[Row], file: Path) -> None:
    """Test AUC of each system, the standard deviation over its seeds as error bar, best on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.4 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    names = [row.expid for row in rows][::-1]
    errors = [row.auc_std or 0 for row in rows][::-1]
    axes.errorbar([row.auc for row in rows][::-1], names, xerr=errors, fmt="o", capsize=3)
    axes.set(xlabel="test AUC (mean ± standard deviation over seeds)", ylim=(-0.5, len(rows) - 0.5))
    axes.grid(axis="x", alpha=0.3)
    figure.savefig(file, dpi=150)


def draw_curves(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Losses and validation AUC over the evaluations, mean over the seeds that got as far."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(CURVES), 3.6), layout="constrained")
    axes = figure.subplots(1, len(CURVES))
    for place, (name, title) in zip(axes, CURVES.items(), strict=True):
        for number, (expid, runs) in enumerate(results.items()):
            curves = [[point[name] for point in run["curve"] if name in point] for run in runs]
            means = [
                np.mean([curve[epoch] for curve in curves if len(curve) > epoch])
                for epoch in range(max(map(len, curves)))
            ]
            if means:
                place.plot(range(1, len(means) + 1), means, marker=".", label=expid, color=color(number))
        place.set(title=title, xlabel="evaluation")
        place.xaxis.get_major_locator().set_params(integer=True)
        place.grid(alpha=0.3)
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(file, dpi=150)


def calibration(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean prediction and share of clicks in bins of equally many rows, (BINS,) each.

    Args:
        label: (N,) 0 or 1. score: (N,) predicted probabilities.
    """
    bins = np.array_split(np.argsort(score, kind="stable"), BINS)
    return np.array([score[rows].mean() for rows in bins]), np.array([label[rows].mean() for rows in bins])


def draw_calibration(predictions: dict[str, list[dict[str, np.ndarray]]], file: Path) -> None:
    """Predicted against observed click rate, all seeds together."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
    for number, (expid, runs) in enumerate(predictions.items()):
        rows = {name: np.concatenate([run[name] for run in runs]) for name in ("label", "score")}
        axes.plot(*calibration(**rows), marker=".", label=expid, color=color(number))
    axes.set(xlabel="predicted", ylabel="observed", title="click rate", xlim=(0, 1), ylim=(0, 1))
    figure.legend(loc="outside right center", fontsize="small")
    figure.savefig(file, dpi=150)


def slice_aucs(runs: list[dict[str, np.ndarray]], slices: Slices) -> list[float]:
    """AUC of each part, mean over the seeds; NaN where a part has one class only."""
    aucs = []
    for number in range(len(slices.names)):
        rows = slices.part == number
        both = len(np.unique(runs[0]["label"][rows])) == 2
        aucs.append(
            float(np.mean([roc_auc_score(run["label"][rows], run["score"][rows]) for run in runs]))
            if both
            else float("nan")
        )
    return aucs


def draw_slices(predictions: dict[str, list[dict[str, np.ndarray]]], slices: Sequence[Slices], file: Path) -> None:
    """Test AUC by history length and by item popularity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(slices), 3.8), layout="constrained")
    axes = figure.subplots(1, len(slices), squeeze=False)
    for place, partition in zip(axes[0], slices, strict=True):
        for number, (expid, runs) in enumerate(predictions.items()):
            place.plot(partition.names, slice_aucs(runs, partition), marker=".", label=expid, color=color(number))
        place.set(xlabel=partition.title, ylabel="test AUC")
        place.grid(alpha=0.3)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")
    figure.savefig(file, dpi=150)
