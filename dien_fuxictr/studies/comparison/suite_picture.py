"""Picture of a suite with `x`: panels of AUC and time by a key that varies."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.common.pictures import COLORS, DASHES, MODEL_STYLES, OTHERS, LineStyle, default_style
from dien_fuxictr.experiment.configuration.overrides import PREFIX

from .plan import ComparedModel, Comparison
from .results_table import Row

STYLE = {"font.size": 10, "svg.fonttype": "none", "text.parse_math": False}
AXES = {
    "attention_type": "attention unit",
    "augru_gate": "gate of AUGRU",
    "aux_fixed_negatives": "negatives of the auxiliary loss drawn once",
    "aux_loss_alpha": "weight of the auxiliary loss",
    "aux_loss_weighting": "weighting of steps in the auxiliary loss",
    "aux_negatives": "negatives of the auxiliary loss",
    "aux_num_negatives": "negatives per behaviour in the auxiliary loss",
    "aux_scorer": "scorer of the auxiliary loss",
    "batch_size": "rows per step",
    "build.exclude_history": "no items of the history among the negatives",
    "build.history_order": "order of the history",
    "build.max_len": "behaviours kept per history",
    "build.min_history": "shortest history, in behaviours",
    "build.negatives": "negatives of the samples",
    "build.targets_per_user": "labelled behaviours per user",
    "build.ties": "order of behaviours of equal time",
    "embedding_dim": "values per embedding",
    "embedding_regularizer": "strength of the embedding regulariser",
    "enable_sum_pooling": "sum of the history added",
    "gru_hidden_size": "values per state",
    "gru_type": "recurrence of the second layer",
    "learning_rate": "learning rate",
    "net_dropout": "dropout",
    "use_attention_softmax": "softmax over the attention scores",
    "weight_averaging": "averaging of the weights",
    "weight_averaging_decay": "decay of the averaged weights",
}
"""Key -> its name on the x axis; for other keys the suite's `x_label` or the key."""
WITHOUT = {"build.targets_per_user": "all"}
"""Key -> name of a value that is null; of other keys "none"."""
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
HANDLE = 0.6
"""Inches of the line beside a label of the legend."""
ACROSS = 56
"""Letters of all tick labels of an x axis together."""
TITLE = 56
"""Letters per line of the title of a panel."""
COLUMNS = 2
"""Panels side by side: a page shows no more of them in a readable size."""
LONGEST = 16
"""Most lines of a legend in the place of a panel."""
APART, WIDEST = 5, 36
"""Points between lines at the same value, and between the outermost of them."""
DPI = 110
MARKERS = "os^Dv"
"""Markers of points: a model with more lines than dashes uses its next marker."""

Points = list[tuple[float, float, float, float]]
"""x, value, and the ends of its interval."""
Value = tuple[float, float, float]
"""Value that is drawn, and the ends of its bar."""
Results = Mapping[str, Sequence[dict[str, Any]]]
"""Name of a model -> result.json of each of its runs."""


@dataclass(frozen=True)
class Style(LineStyle):
    """Style of a line with points.

    Attributes:
        marker: one of `MARKERS`.
    """

    marker: str = MARKERS[0]

    @property
    def line(self) -> dict[str, Any]:
        """Return the arguments of matplotlib for the line without its points."""
        return {"color": self.color, "linestyle": self.dash, "linewidth": 1.6}


@dataclass(frozen=True)
class Panel:
    """A panel of the picture.

    Attributes:
        title: text above the panel.
        label: name of the y axis.
        values: name of a model -> its value with the ends of its bar; models without a value are left out.
        is_logarithmic: whether the y axis is.
        zero: the experiment whose value is 0, for a difference.
    """

    title: str
    label: str
    values: dict[str, Value] = field(default_factory=dict)
    is_logarithmic: bool = False
    zero: str | None = None


def build_panels(comparison: Comparison, rows: Sequence[Row], results: Results) -> list[Panel]:
    """Build the panels: validation, test, and with `against` the training time.

    A panel without a value is left out.

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
    runs = f"range of {max(map(len, results.values()), default=0)} runs"
    panels = [Panel(title=f"Validation, mean and {runs}", label=f"validation {monitor}", values=validation)]
    against = comparison.against
    if not against:
        test = {row.expid: _with_ends(row.auc, row.auc_low, row.auc_high) for row in rows}
        panels.append(Panel(title="Test, mean and 95\N{NO-BREAK SPACE}% interval", label="test AUC", values=test))
        return [panel for panel in panels if panel.values]
    differences = {
        row.expid: _with_ends(row.against, row.against_low, row.against_high) for row in rows if row.against is not None
    }
    title = f"Test, gain over {against}, mean and 95\N{NO-BREAK SPACE}% interval"
    panels.append(Panel(title=title, label="gain of test AUC", values=differences, zero=against))
    names = [model.name for model in comparison.models if model.experiment == against and model.name in bests]
    best = max(names, key=lambda name: np.mean(bests[name]), default=None)
    aim = {run["seed"]: found for run, found in zip(results[best], bests[best], strict=True)} if best else {}
    minutes = {
        name: _of_runs([found for found in taken if found is not None])
        for name, runs in results.items()
        if None not in (taken := [_minutes_to(run, sign, aim.get(run["seed"])) for run in runs])
    }
    if minutes:
        title = f"Training until validation reaches the best of {against}, mean and {runs}"
        panels.append(Panel(title=title, label="minutes of training", values=minutes, is_logarithmic=True))
    return [panel for panel in panels if panel.values]


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

        columns = min(len(panels), COLUMNS)
        lines = -(-len(panels) // columns)
        width, height = SIZE[0] * columns, SIZE[1] * lines
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        places = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        labels: dict[str, Any] = {}
        for panel, axes in zip(panels, places, strict=False):
            _draw_panel(figure, axes, panel, comparison, comparison.x)
            for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
                labels.setdefault(name, handle)
        figure.suptitle(fill(comparison.title, int(width / LETTER / 1.5)), x=0.01, ha="left", weight="bold", size=12)
        free = places[len(panels) :]
        for axes in free:
            axes.axis("off")
        legend = {"frameon": False, "fontsize": 9, "handlelength": 3}
        letters = max(map(len, labels))
        if free and len(labels) <= LONGEST and LETTER * letters + HANDLE < SIZE[0]:
            free[0].legend(labels.values(), labels, loc="upper left", **legend)
        else:
            count = max(1, min(len(labels), int(width / (LETTER * letters + HANDLE))))
            figure.legend(labels.values(), labels, loc="outside lower left", ncols=count, **legend)
            figure.set_figheight(height + ROW * -(-len(labels) // count))
        files = [folder / f"suite.{form}" for form in ("png", "svg")]
        for file in files:
            form = file.suffix[1:]
            write_atomic(file, lambda output, form=form: figure.savefig(output, format=form, dpi=DPI))
    return files


def _draw_panel(figure: Any, axes: Any, panel: Panel, comparison: Comparison, x: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.08)
    if panel.is_logarithmic:
        axes.set_yscale("log")
        axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    values = _values(comparison, x)
    places = dict(zip(map(repr, values), _axis(axes, values, comparison, x), strict=True))
    models = {_label(model, comparison, x): model for model in comparison.models}
    every = [*models]
    apart = min(APART, WIDEST / len(every))
    styles = choose_styles({label: _class_of(model) for label, model in models.items()})
    lines, levels = _lines(comparison, x, panel.values, places)
    for label, points in lines.items():
        _draw_line(figure, axes, points, label, apart * (every.index(label) - (len(every) - 1) / 2), styles[label])
    for label, (value, low, high) in levels.items():
        axes.axhline(value, **styles[label].line, label=label)
        axes.axhspan(low, high, color=styles[label].color, alpha=0.08, linewidth=0)
    if panel.zero:
        own = [label for label, model in models.items() if model.experiment == panel.zero]
        label, style = (own[0], styles[own[0]]) if len(own) == 1 else (f"{panel.zero}: 0", Style("0.35"))
        axes.axhline(0, **style.line, label=label)
    axes.set_title(fill(panel.title, TITLE), loc="left", fontsize=10)
    axes.set_xlabel(fill(comparison.x_label or _words(x, values), ACROSS))
    axes.set_ylabel(panel.label)
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def choose_styles(models: Mapping[str, str]) -> dict[str, Style]:
    """Choose a style for each line; its colour belongs to its model.

    The first line of a model has the style that the model has in every picture. Further lines differ by dash, then by
    marker. Models without a colour get those that no model of the picture owns.

    Args:
        models: label of a line -> its model.
    """
    known = {model: MODEL_STYLES[model] for model in models.values() if model in MODEL_STYLES}
    owned = {style.color for style in known.values()}
    free = iter([color for color in COLORS if color not in owned])
    first = {models[label]: label for label in reversed([*models])}
    styles: dict[str, Style] = {}
    for label in dict.fromkeys([*first.values(), *models]):
        if models[label] not in known:
            known[models[label]] = LineStyle(next(free, OTHERS))
        own = known[models[label]]
        choices = product(MARKERS, dict.fromkeys([own.dash, *DASHES, "dashdot"]))
        wanted = (Style(own.color, dash, marker) for marker, dash in choices)
        styles[label] = next((style for style in wanted if style not in styles.values()), Style(own.color))
    return styles


def _class_of(model: ComparedModel) -> str:
    """Return the name of a model's class; without runs, the start of its experiment's id."""
    return model.runs[0].params.get("model", "") if model.runs else model.experiment.partition("_")[0]


def _words(x: str, values: Sequence[Any]) -> str:
    """Return the name of the x axis: its words and its key."""
    key = x.removeprefix(PREFIX)
    if beginning := _beginning(values):
        return f"{beginning.strip('_').rpartition('_')[2]} (from the file names of {key})"
    return f"{AXES[x]} ({key})" if x in AXES else key


def _values(comparison: Comparison, x: str) -> list[Any]:
    """Return the values of the key, each once, numbers first and ascending."""
    values = {repr(model.variation[x]): model.variation[x] for model in comparison.models if x in model.variation}
    return [*sorted(filter(_is_number, values.values())), *(v for v in values.values() if not _is_number(v))]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _axis(axes: Any, values: Sequence[Any], comparison: Comparison, x: str) -> list[float]:
    """Set scale and ticks of the x axis; return the place of each value.

    Values with a name, such as "all", are no numbers: then all values are evenly placed.
    """
    names = [_name(value, comparison, x).removeprefix(_beginning(values)) for value in values]
    above = [value for value in values if _is_number(value) and value > 0]
    is_logarithmic = len(above) > 1 and above[0] * DECADES <= above[-1]
    if (
        comparison.x_names
        or not all(map(_is_number, values))
        or _are_crowded(np.log(above).tolist() if is_logarithmic else values)
    ):
        _set_names(axes, range(len(values)), names)
        return [float(place) for place in range(len(values))]
    if is_logarithmic and values[0] >= 0:
        if values[0] == 0:
            axes.set_xscale("symlog", linthresh=above[0], linscale=0.5)
        else:
            axes.set_xscale("log")
    _set_names(axes, values, names)
    axes.set_xticks([], minor=True)
    return [float(value) for value in values]


def _set_names(axes: Any, places: Iterable[float], names: Sequence[str]) -> None:
    """Set the tick labels of the x axis, in lines or slanted where they are long."""
    room = ACROSS // len(names)
    folded = [fill(name, max(1, room), break_long_words=False) for name in names]
    if max(len(line) for name in folded for line in name.splitlines()) > room:
        axes.set_xticks(places, names, rotation=30, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(places, folded)


def _are_crowded(values: Sequence[float]) -> bool:
    """Return whether the smallest gap is too small a part of the axis."""
    gaps = np.diff(np.array(values, float))
    return len(gaps) > 0 and bool(gaps.min() * CROWDED < gaps.sum())


def _beginning(values: Sequence[Any]) -> str:
    """Return the common start of file names: `noise_` for noise_0.1, noise_0.3.csv."""
    found = {"".join(_text(value).rpartition("_")[:2]) if "/" in str(value) else "" for value in values}
    return found.pop() if len(found) == 1 else ""


def _name(value: Any, comparison: Comparison, x: str) -> str:
    """Return the tick label of a value: its name in the suite, or its text."""
    names = {repr(named): name for named, name in comparison.x_names.items()}
    return names.get(repr(value)) or (WITHOUT.get(x, "none") if value is None else _text(value))


def _text(value: Any) -> str:
    """Return the text of a value: a number, a switch, a list, the path of a file, any other."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
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
    """Return experiment and variation of a model, without keys that go with others."""
    alike = [
        other.variation for other in comparison.models if other.experiment == model.experiment and x in other.variation
    ]
    told = [x]
    for key in model.variation:
        if key not in told and not any(_goes_with(key, other, alike) for other in told):
            told.append(key)
    others = [f"{key.removeprefix(PREFIX)} {_text(model.variation[key])}" for key in told if key != x]
    return ", ".join([model.experiment, *others])


def _goes_with(key: str, other: str, variations: Sequence[dict[str, Any]]) -> bool:
    """Return whether a key changes only if another key does."""
    pairs = {(repr(variation.get(other)), repr(variation.get(key))) for variation in variations}
    return len(pairs) == len({value for value, _ in pairs}) and len({of_key for _, of_key in pairs}) > 1


def _draw_line(figure: Any, axes: Any, points: Points, label: str, aside: float, style: Style) -> None:
    """Draw a line with its intervals, shifted so that several do not overlap."""
    from matplotlib.transforms import ScaledTranslation

    shift = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
    x, y, low, high = zip(*points, strict=True)
    ends = np.abs(np.array([low, high]) - y)
    marks = {"marker": style.marker, "markersize": 5, "elinewidth": 1.2, "capsize": 3}
    axes.errorbar(x, y, yerr=ends, label=label, transform=shift, **style.line, **marks)
    axes.update_datalim([*zip(x, low, strict=True), *zip(x, high, strict=True)])  # a shifted line does not tell its own
    axes.autoscale_view()
