"""Picture of a suite with `x`: its panels, against a key that varies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.pictures import COLORS, default_style
from dien_fuxictr.experiment.configuration.overrides import PREFIX

from .plan import ComparedModel, Comparison
from .results_table import Row

STYLE = {"font.size": 10, "axes.titlesize": 11, "svg.fonttype": "none", "text.parse_math": False}
DECADES = 10
"""Ratio of the largest to the smallest value from which the axis is logarithmic."""
CROWDED = 9
"""Ratio of the whole axis to its smallest gap above which values are placed evenly."""
SIZE = (5, 3.8)
"""Inches of a panel."""
ROW = 0.19
"""Inches of a row of the legend."""
LETTER = 0.07
"""Inches of a letter of the legend."""
LINE = 34
"""Letters of the label beside a panel, in a line."""
DPI = 100

Points = list[tuple[float, float, float, float]]
"""x, value, and the ends of its interval."""
Value = tuple[float, float, float]
"""Value that is drawn, and the ends of its bar."""
Results = Mapping[str, Sequence[dict[str, Any]]]
"""Name of a model -> result.json of each of its runs."""


@dataclass(frozen=True)
class Panel:
    """One of the panels side by side.

    Attributes:
        title: above it. label: of its y axis. values: name of a model -> what is drawn of it, if anything.
        is_logarithmic: of the y axis. zero: whose value is 0, for a difference.
    """

    title: str
    label: str
    values: dict[str, Value] = field(default_factory=dict)
    is_logarithmic: bool = False
    zero: str | None = None


def build_panels(comparison: Comparison, rows: Sequence[Row], results: Results) -> list[Panel]:
    """Build the panels: validation, test, and with `against` the training time.

    Args:
        comparison: the comparison.
        rows: rows of its table.
        results: results of its finished runs.
    """
    first = comparison.models[0].runs[0]
    sign = -1 if first.is_minimised else 1
    bests = {
        name: [sign * first.monitor.get_value(result["valid"]) for result in runs] for name, runs in results.items()
    }
    validation = {name: _of_runs([sign * best for best in found]) for name, found in bests.items()}
    monitor = "+".join(first.monitor.get_metrics())
    panels = [
        Panel(title="validation: mean, least and most of the runs", label=f"validation {monitor}", values=validation)
    ]
    against = comparison.against
    if not against:
        test = {row.expid: _with_ends(row.auc, row.auc_low, row.auc_high) for row in rows}
        return [*panels, Panel(title="test, 95 % intervals", label="test AUC", values=test)]
    differences = {
        row.expid: _with_ends(row.against, row.against_low, row.against_high) for row in rows if row.against is not None
    }
    panels.append(
        Panel(
            title="test, 95 % intervals",
            label=f"test AUC - that of {against}",
            values=differences,
            zero=against,
        ),
    )
    names = [model.name for model in comparison.models if model.experiment == against and model.name in bests]
    best = max(names, key=lambda name: np.mean(bests[name]), default=None)
    aim = {run["seed"]: found for run, found in zip(results[best], bests[best], strict=True)} if best else {}
    minutes = {
        name: _of_runs([found for found in taken if found is not None])
        for name, runs in results.items()
        if None not in (taken := [_minutes_to(run, sign, aim.get(run["seed"])) for run in runs])
    }
    if minutes:
        title = "training until validation is as good as its best"
        panels.append(
            Panel(title=title, label=f"minutes to the best of {against}", values=minutes, is_logarithmic=True)
        )
    return panels


def _with_ends(value: float, low: float | None, high: float | None) -> Value:
    """Return a value with the ends of its bar; NaN where it has no interval."""
    return (value, math.nan, math.nan) if low is None or high is None else (value, low, high)


def _of_runs(values: Sequence[float]) -> Value:
    return float(np.mean(values)), min(values), max(values)


def _minutes_to(result: dict[str, Any], sign: int, aim: float | None) -> float | None:
    """Return the training minutes until a validation reaches the aim, or None."""
    if aim is None:
        return None
    points = [point for point in result["curve"] if "monitor" in point]
    steps = (point["step"] for point in points if sign * point["monitor"] >= aim)
    first = next(steps, None)
    return None if first is None else result["train_seconds"] / 60 * first / points[-1]["step"]


def draw_suite(comparison: Comparison, panels: Sequence[Panel], folder: Path) -> list[Path]:
    """Write suite.png and suite.svg.

    Args:
        comparison: a comparison with an `x`.
        panels: panels, drawn side by side; see `build_panels`.
        folder: receives the files.

    Returns:
        The files.

    Raises:
        UserError: matplotlib is not installed.
    """
    assert comparison.x
    with default_style(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(SIZE[0] * len(panels), SIZE[1]), dpi=DPI, layout="constrained")
        labels: dict[str, Any] = {}
        for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False, sharex=True)[0], strict=True):
            _draw_panel(figure, axes, panel, comparison, comparison.x)
            handles, names = axes.get_legend_handles_labels()
            labels |= dict(zip(names, handles, strict=True))
        figure.suptitle(comparison.title)
        columns = max(1, min(len(labels), int(SIZE[0] * len(panels) / (LETTER * max(map(len, labels)) + 0.5))))
        figure.legend(labels.values(), labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
        figure.set_figheight(SIZE[1] + ROW * -(-len(labels) // columns))
        files = [folder / f"suite.{form}" for form in ("png", "svg")]
        for file in files:
            form = file.suffix[1:]
            write_atomic(file, lambda output, form=form: figure.savefig(output, format=form, dpi=DPI))
    return files


def _draw_panel(figure: Any, axes: Any, panel: Panel, comparison: Comparison, x: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06)
    if panel.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    values = _values(comparison, x)
    places = dict(zip(map(repr, values), _axis(axes, values), strict=True))
    every = list(dict.fromkeys(_label(model, comparison, x) for model in comparison.models))
    colors = {label: COLORS[number % len(COLORS)] for number, label in enumerate(every)}
    lines, levels = _lines(comparison, x, panel.values, places)
    for label, points in lines.items():
        _draw_line(figure, axes, points, label, every.index(label) - (len(every) - 1) / 2, colors[label])
    for label, (value, low, high) in levels.items():
        axes.axhline(value, color=colors[label], linestyle="--", linewidth=1.4, label=label)
        axes.axhspan(low, high, color=colors[label], alpha=0.08, linewidth=0)
    if panel.zero:
        axes.axhline(0, color="0.35", linewidth=1, label=f"{panel.zero}: 0")
    axes.set_title(panel.title, loc="left", fontsize=10)
    beginning = _beginning(values)
    axes.set_xlabel(x.removeprefix(PREFIX) + (f": {beginning}…" if beginning else ""))
    axes.set_ylabel(fill(panel.label, LINE, break_long_words=False))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def _values(comparison: Comparison, x: str) -> list[Any]:
    """Return the values of the key, each once, numbers ascending."""
    values = {repr(model.variation[x]): model.variation[x] for model in comparison.models if x in model.variation}
    found = list(values.values())
    return sorted(found) if all(map(_is_number, found)) else found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _axis(axes: Any, values: Sequence[Any]) -> list[float]:
    """Set scale and ticks of the x axis; return the place of each value."""
    above = [value for value in values if _is_number(value) and value > 0]
    is_logarithmic = len(above) > 1 and above[0] * DECADES <= above[-1]
    if not all(map(_is_number, values)) or _are_crowded(np.log(above).tolist() if is_logarithmic else values):
        axes.set_xticks(range(len(values)), [_text(value).removeprefix(_beginning(values)) for value in values])
        return [float(place) for place in range(len(values))]
    if is_logarithmic and values[0] >= 0:
        if values[0] == 0:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
        else:
            axes.set_xscale("log")
    axes.set_xticks(values, [_text(value) for value in values])
    axes.set_xticks([], minor=True)
    return [float(value) for value in values]


def _are_crowded(values: Sequence[float]) -> bool:
    """Return whether the smallest gap is too small a part of the axis."""
    gaps = np.diff(np.array(values, float))
    return len(gaps) > 0 and bool(gaps.min() * CROWDED < gaps.sum())


def _beginning(values: Sequence[Any]) -> str:
    """Return the common start of file names: `noise_` for noise_0.1, noise_0.3.csv."""
    found = {"".join(_text(value).rpartition("_")[:2]) if "/" in str(value) else "" for value in values}
    return found.pop() if len(found) == 1 else ""


def _text(value: Any) -> str:
    """Return the label of a value: a number, a list, the path of a file, any other."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if _is_number(value) else Path(value).stem if "/" in f"{value}" else f"{value}"


def _lines(
    comparison: Comparison, x: str, values: Mapping[str, Value], places: Mapping[str, float]
) -> tuple[dict[str, Points], dict[str, Value]]:
    """Return the lines, and the values without an x, each by its label."""
    lines: dict[str, Points] = {}
    levels: dict[str, Value] = {}
    for model in comparison.models:
        if not (value := values.get(model.name)):
            continue
        label = _label(model, comparison, x)
        if x in model.variation:
            lines.setdefault(label, []).append((places[repr(model.variation[x])], *value))
        else:
            levels[label] = value
    return {label: sorted(points) for label, points in lines.items()}, levels


def _label(model: ComparedModel, comparison: Comparison, x: str) -> str:
    """Return experiment and variation of a model, without keys that change with x."""
    alike = [
        other.variation for other in comparison.models if other.experiment == model.experiment and x in other.variation
    ]
    others = [
        f"{key.removeprefix(PREFIX)} {_text(value)}"
        for key, value in model.variation.items()
        if key != x and not _goes_with(key, x, alike)
    ]
    return ", ".join([model.experiment, *others])


def _goes_with(key: str, x: str, variations: Sequence[dict[str, Any]]) -> bool:
    """Return whether a key changes with x, and with nothing else."""
    pairs = {(repr(variation[x]), repr(variation.get(key))) for variation in variations}
    return len(pairs) == len({value for value, _ in pairs}) and len({of_key for _, of_key in pairs}) > 1


def _draw_line(figure: Any, axes: Any, points: Points, label: str, aside: float, color: str) -> None:
    """Draw a line with its intervals, shifted so that several do not overlap."""
    from matplotlib.transforms import ScaledTranslation

    shift = axes.transData + ScaledTranslation(aside * 5 / 72, 0, figure.dpi_scale_trans)
    x, y, low, high = zip(*points, strict=True)
    ends = np.abs(np.array([low, high]) - y)
    style = {"color": color, "marker": "o", "markersize": 5, "linewidth": 1.6, "elinewidth": 1.2, "capsize": 3}
    axes.errorbar(x, y, yerr=ends, label=label, transform=shift, **style)
    axes.update_datalim([*zip(x, low, strict=True), *zip(x, high, strict=True)])  # a shifted line does not tell its own
    axes.autoscale_view()
