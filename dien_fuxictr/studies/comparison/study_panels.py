"""What the picture of a suite shows of each system: validation, test, and what training takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .plan import Study
from .table import Row

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
