"""The picture of a suite with `x`: its panels, against a key that varies."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.pictures import default_style
from dien_fuxictr.experiment.configuration.overrides import PREFIX

from .plan import Study, System
from .report_pictures import COLORS
from .results_table import Row

STYLE = {"font.size": 10, "axes.titlesize": 11, "svg.fonttype": "none", "text.parse_math": False}
DECADES = 10
"""From this ratio of the largest to the smallest value on the axis is logarithmic."""
CROWDED = 9
"""Above this ratio of the whole axis to the smallest gap its values stand side by side, evenly."""
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
"""What is drawn, and the ends of its bar."""
Results = Mapping[str, Sequence[dict[str, Any]]]
"""Name of a system -> result.json of each of its runs."""


@dataclass(frozen=True)
class Panel:
    """One of the pictures side by side.

    Attributes:
        title: above it. label: of its y axis. values: name of a system -> what is drawn of it, if anything.
        is_logarithmic: of the y axis. zero: whose value is 0, for a difference.
    """

    title: str
    label: str
    values: dict[str, Value] = field(default_factory=dict)
    is_logarithmic: bool = False
    zero: str | None = None


def panels_of(study: Study, rows: Sequence[Row], results: Results) -> list[Panel]:
    """Validation, by which one chooses; test; and with `against` the time to its best validation.

    Args:
        rows: of the study's table.
        results: of its finished runs.
    """
    first = study.systems[0].runs[0]
    sign = -1 if first.is_minimised else 1
    bests = {
        name: [sign * first.monitor.get_value(result["valid"]) for result in runs] for name, runs in results.items()
    }
    validation = {name: _of_runs([sign * best for best in found]) for name, found in bests.items()}
    monitor = "+".join(first.monitor.get_metrics())
    panels = [Panel("validation: mean, least and most of the runs", f"validation {monitor}", validation)]
    against = study.against
    if not against:
        test = {row.expid: _with_ends(row.auc, row.auc_low, row.auc_high) for row in rows}
        return [*panels, Panel("test, 95 % intervals", "test AUC", test)]
    differences = {
        row.expid: _with_ends(row.against, row.against_low, row.against_high) for row in rows if row.against is not None
    }
    panels.append(
        Panel("test, 95 % intervals", f"test AUC - that of {against}", differences, zero=against),
    )
    names = [system.name for system in study.systems if system.experiment == against and system.name in bests]
    best = max(names, key=lambda name: np.mean(bests[name]), default=None)
    aim = {run["seed"]: found for run, found in zip(results[best], bests[best], strict=True)} if best else {}
    minutes = {
        name: _of_runs([found for found in taken if found is not None])
        for name, runs in results.items()
        if None not in (taken := [_minutes_to(run, sign, aim.get(run["seed"])) for run in runs])
    }
    if minutes:
        title = "training until validation is as good as its best"
        panels.append(Panel(title, f"minutes to the best of {against}", minutes, True))
    return panels


def _with_ends(value: float, low: float | None, high: float | None) -> Value:
    """A value without an interval has no bar."""
    return (value, math.nan, math.nan) if low is None or high is None else (value, low, high)


def _of_runs(values: Sequence[float]) -> Value:
    return float(np.mean(values)), min(values), max(values)


def _minutes_to(result: dict[str, Any], sign: int, aim: float | None) -> float | None:
    """Training time until sign times a validation reaches the aim, evaluations not counted; None where none does."""
    if aim is None:
        return None
    points = [point for point in result["curve"] if "monitor" in point]
    steps = (point["step"] for point in points if sign * point["monitor"] >= aim)
    first = next(steps, None)
    return None if first is None else result["train_seconds"] / 60 * first / points[-1]["step"]


def draw_suite(study: Study, panels: Sequence[Panel], folder: Path) -> list[Path]:
    """Write study.png and study.svg.

    Args:
        study: with an `x`.
        panels: side by side; see `panels_of`.

    Returns:
        The files.

    Raises:
        UserError: matplotlib is not installed.
    """
    assert study.x
    with default_style(STYLE):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(SIZE[0] * len(panels), SIZE[1]), dpi=DPI, layout="constrained")
        labels: dict[str, Any] = {}
        for panel, axes in zip(panels, figure.subplots(1, len(panels), squeeze=False, sharex=True)[0], strict=True):
            _draw_panel(figure, axes, panel, study, study.x)
            handles, names = axes.get_legend_handles_labels()
            labels |= dict(zip(names, handles, strict=True))
        figure.suptitle(study.title)
        columns = max(1, min(len(labels), int(SIZE[0] * len(panels) / (LETTER * max(map(len, labels)) + 0.5))))
        figure.legend(labels.values(), labels, loc="outside lower left", ncols=columns, frameon=False, fontsize=9)
        figure.set_figheight(SIZE[1] + ROW * -(-len(labels) // columns))
        files = [folder / f"study.{form}" for form in ("png", "svg")]
        for file in files:
            form = file.suffix[1:]
            write_atomic(file, lambda output, form=form: figure.savefig(output, format=form, dpi=DPI))
    return files


def _draw_panel(figure: Any, axes: Any, panel: Panel, study: Study, x: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.06)
    if panel.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    values = _values(study, x)
    places = dict(zip(map(repr, values), _axis(axes, values), strict=True))
    every = list(dict.fromkeys(_label(system, study, x) for system in study.systems))
    colors = {label: COLORS[number % len(COLORS)] for number, label in enumerate(every)}
    lines, levels = _lines(study, x, panel.values, places)
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


def _values(study: Study, x: str) -> list[Any]:
    """What the key is, each once; numbers ascending, all else in its order."""
    values = {repr(system.variation[x]): system.variation[x] for system in study.systems if x in system.variation}
    found = list(values.values())
    return sorted(found) if all(map(_is_number, found)) else found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _axis(axes: Any, values: Sequence[Any]) -> list[float]:
    """Scale and ticks of the x axis; where each value is on it."""
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
    """Whether the smallest gap is too small a part of the axis, as of .99 and .997 beside 0, or of 1, 2, 4 and 1024."""
    gaps = np.diff(np.array(values, float))
    return len(gaps) > 0 and bool(gaps.min() * CROWDED < gaps.sum())


def _beginning(values: Sequence[Any]) -> str:
    """What the names of a series of files have in common: `noise_` of logs/noise_0.1.csv and logs/noise_0.3.csv."""
    found = {"".join(_text(value).rpartition("_")[:2]) if "/" in str(value) else "" for value in values}
    return found.pop() if len(found) == 1 else ""


def _text(value: Any) -> str:
    """Of a number, a list, the path of a file, or else, as YAML has it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if _is_number(value) else Path(value).stem if "/" in f"{value}" else f"{value}"


def _lines(
    study: Study, x: str, values: Mapping[str, Value], places: Mapping[str, float]
) -> tuple[dict[str, Points], dict[str, Value]]:
    """The lines, and what has no x, each by its label."""
    lines: dict[str, Points] = {}
    levels: dict[str, Value] = {}
    for system in study.systems:
        if not (value := values.get(system.name)):
            continue
        label = _label(system, study, x)
        if x in system.variation:
            lines.setdefault(label, []).append((places[repr(system.variation[x])], *value))
        else:
            levels[label] = value
    return {label: sorted(points) for label, points in lines.items()}, levels


def _label(system: System, study: Study, x: str) -> str:
    """Its experiment and what else it varies, but for what goes with x, as a batch size that grows with the rows."""
    alike = [
        other.variation for other in study.systems if other.experiment == system.experiment and x in other.variation
    ]
    others = [
        f"{key.removeprefix(PREFIX)} {_text(value)}"
        for key, value in system.variation.items()
        if key != x and not _goes_with(key, x, alike)
    ]
    return ", ".join([system.experiment, *others])


def _goes_with(key: str, x: str, variations: Sequence[dict[str, Any]]) -> bool:
    """Whether a key changes with x, and with nothing else."""
    pairs = {(repr(variation[x]), repr(variation.get(key))) for variation in variations}
    return len(pairs) == len({value for value, _ in pairs}) and len({of_key for _, of_key in pairs}) > 1


def _draw_line(figure: Any, axes: Any, points: Points, label: str, aside: float, color: str) -> None:
    """A line with its intervals, a little aside so that those of several lines are told apart."""
    from matplotlib.transforms import ScaledTranslation

    shift = axes.transData + ScaledTranslation(aside * 5 / 72, 0, figure.dpi_scale_trans)
    x, y, low, high = zip(*points, strict=True)
    ends = np.abs(np.array([low, high]) - y)
    style = {"color": color, "marker": "o", "markersize": 5, "linewidth": 1.6, "elinewidth": 1.2, "capsize": 3}
    axes.errorbar(x, y, yerr=ends, label=label, transform=shift, **style)
    axes.update_datalim([*zip(x, low, strict=True), *zip(x, high, strict=True)])  # a shifted line does not tell its own
    axes.autoscale_view()
