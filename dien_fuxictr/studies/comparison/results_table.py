"""Table of a comparison: one row per model, compared with a base."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from dien_fuxictr.common.markdown import padded_table

from .statistics import Interval, Scored, mean_auc, paired_difference, score_runs


@dataclass(frozen=True)
class Row:
    """One model of a comparison.

    Attributes:
        expid: its name. runs: seeds or folds that have finished.
        auc, gauc, logloss: mean over the runs on the test set; *_std: standard deviation; None for one run.
        improvement: the paper's RI over the base, (AUC - .5) / (AUC of the base - .5) - 1.
        difference, low, high: the AUC minus the base's and its 95 % interval, see `statistics`; None for the base, and
            where the base is on other test rows. Without low and high the interval would be too wide.
        holds_runs: whether the interval has the noise of the runs; else one run of it or of the base is all there is.
        too_few: "seeds", "folds" or "users", where there are not enough of them for an interval.
        first, last: the places that the row may have: rows whose intervals overlap are not ranked among each other.
        parameters: number of trained weights. epochs: mean number of epochs until the stop.
        epoch_seconds: training time of an epoch. samples_per_second: of training, loading included.
        inference_ms: milliseconds of the forward pass, per batch.
        is_base: whether others are compared with it.
        against, ...: as above, for the difference to the second base, if there is one.
        test_set: number of its test rows among those of the table, from 1; only within one rows have places.
        auc_low, auc_high: 95 % interval of the AUC itself, which is wider than that of a paired difference, or None.
        untrained: runs whose model has learnt nothing.
    """

    expid: str
    runs: int
    auc: float
    auc_std: float | None
    gauc: float | None
    gauc_std: float | None
    logloss: float | None
    logloss_std: float | None
    improvement: float | None
    difference: float | None
    low: float | None
    high: float | None
    holds_runs: bool
    too_few: str | None
    parameters: int
    epochs: float
    epoch_seconds: float
    samples_per_second: float
    inference_ms: float
    first: int = 1
    last: int = 1
    is_base: bool = False
    against: float | None = None
    against_low: float | None = None
    against_high: float | None = None
    against_holds_runs: bool = True
    against_too_few: str | None = None
    test_set: int = 1
    auc_low: float | None = None
    auc_high: float | None = None
    untrained: int = 0

    @property
    def caution(self) -> str:
        """Return what follows its name in a table if runs of it have learnt nothing."""
        return f" ({self.untrained} of {self.runs} runs untrained)" if self.untrained else ""

    @property
    def verdict(self) -> str:
        """Return what the interval says of the row compared with the base."""
        if self.is_base:
            return "base"
        if self.difference is None:
            return "-"
        if not self.holds_runs:
            return "one run"
        if self.low is None or self.high is None:
            return f"not enough {self.too_few}"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not ranked"


def make_rows(
    results: dict[str, list[dict[str, Any]]],
    predictions: dict[str, list[dict[str, np.ndarray]]],
    base: str | Mapping[str, str],
    against: Mapping[str, str] | None = None,
    test_rows: Mapping[str, Sequence[int]] | None = None,
) -> list[Row]:
    """Build the rows, those on equal test rows together, best AUC first.

    Args:
        results: name -> result.json of each of its runs.
        predictions: name -> predictions.npz of each of its runs.
        base: the name that the others are compared with, or for each name its own base.
        against: name -> a second base, for names that have one.
        test_rows: name -> a number that identifies the test rows of each run; None: all runs have equal test rows.
    """
    bases = dict.fromkeys(results, base) if isinstance(base, str) else base
    scored = {name: score_runs(runs, (test_rows or {}).get(name)) for name, runs in predictions.items()}
    sets = _test_sets(scored)
    rows = []
    for name, runs in results.items():
        auc, auc_std = _over_runs(runs, "AUC")
        gauc, gauc_std = _if_measured(runs, "gAUC")
        logloss, logloss_std = _if_measured(runs, "logloss")
        alone = mean_auc(scored[name])
        own_base = bases.get(name)
        first = _difference(scored, own_base, name)
        second = _difference(scored, (against or {}).get(name), name)
        base_auc = np.mean([run["test"]["AUC"] for run in results[own_base]]) if own_base else None
        seconds = sum(run["train_seconds"] for run in runs)
        epochs = sum(run["epochs"] for run in runs)
        rows.append(
            Row(
                expid=name,
                runs=len(runs),
                auc=auc,
                auc_std=auc_std,
                gauc=gauc,
                gauc_std=gauc_std,
                logloss=logloss,
                logloss_std=logloss_std,
                improvement=float((auc - 0.5) / (base_auc - 0.5) - 1) if base_auc else None,
                difference=first and first.mean,
                low=first and first.low,
                high=first and first.high,
                holds_runs=first is None or first.holds_runs,
                too_few=first and first.too_few,
                parameters=runs[0]["parameters"],
                epochs=epochs / len(runs),
                epoch_seconds=seconds / epochs,
                samples_per_second=sum(run["train_rows"] for run in runs) / seconds,
                inference_ms=float(np.mean([run["inference_ms"] for run in runs])),
                is_base=own_base == name,
                against=second and second.mean,
                against_low=second and second.low,
                against_high=second and second.high,
                against_holds_runs=second is None or second.holds_runs,
                against_too_few=second and second.too_few,
                test_set=sets[name],
                auc_low=alone.low,
                auc_high=alone.high,
                untrained=sum("untrained" in run for run in runs),
            )
        )
    groups = [[row for row in rows if row.test_set == number] for number in sorted(set(sets.values()))]
    return [row for group in groups for row in _rank_rows(sorted(group, key=lambda row: -row.auc))]


def _test_sets(scored: Mapping[str, Scored]) -> dict[str, int]:
    """Return a number from 1 per model; models with common test rows share it."""
    sets: dict[str, int] = {}
    for name, runs in scored.items():
        alike = (sets[other] for other in sets if set(runs.rows) & set(scored[other].rows))
        sets[name] = next(alike, max(sets.values(), default=0) + 1)
    return sets


def _difference(scored: Mapping[str, Scored], base: str | None, name: str) -> Interval | None:
    return paired_difference(scored[base], scored[name]) if base not in (None, name) else None


def _rank_rows(rows: list[Row]) -> list[Row]:
    """Set the ranks that the intervals allow each row; without runs' noise, all."""
    wide = [0 if row.is_base or (row.low is not None and row.holds_runs) else np.inf for row in rows]
    lows = np.array([row.low or 0 for row in rows]) - wide
    highs = np.array([row.high or 0 for row in rows]) + wide
    first, last = 1 + (lows > highs[:, None]).sum(axis=1), len(rows) - (highs < lows[:, None]).sum(axis=1)
    return [replace(row, first=int(first[i]), last=int(last[i])) for i, row in enumerate(rows)]


def _over_runs(runs: list[dict[str, Any]], metric: str) -> tuple[float, float | None]:
    values = [run["test"][metric] for run in runs]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _if_measured(runs: list[dict[str, Any]], metric: str) -> tuple[float | None, float | None]:
    return _over_runs(runs, metric) if all(metric in run["test"] for run in runs) else (None, None)


HEADER = (
    "place",
    "experiment",
    "AUC",
    "gAUC",
    "logloss",
    "RI",
    "AUC - base, 95 %",
    "against base",
    "parameters",
    "s/epoch",
    "samples/s",
    "ms/batch",
)
"""Columns of every table; see `header`."""


def header(rows: Sequence[Row], against: str | None = None) -> tuple[str, ...]:
    """Return the columns of a table of these rows.

    Args:
        rows: rows of the table.
        against: the second base of differences.
    """
    names: list[str] = list(HEADER)
    if against:
        names.insert(names.index("parameters"), f"AUC - {against}, 95 %")
    if len({row.test_set for row in rows}) > 1:
        names.insert(names.index("AUC"), "test rows")
    return tuple(names)


def cells(row: Row, names: Sequence[str] = HEADER) -> list[str]:
    """Return the texts of a row, one per column of the header."""
    known = {
        "place": f"{row.first}" if row.first == row.last else f"{row.first}-{row.last}",
        "experiment": row.expid + row.caution,
        "test rows": f"{row.test_set}",
        "AUC": _with_std(row.auc, row.auc_std),
        "gAUC": _with_std(row.gauc, row.gauc_std),
        "logloss": _with_std(row.logloss, row.logloss_std),
        "RI": "-" if row.improvement is None else f"{row.improvement:+.2%}",
        "AUC - base, 95 %": ""
        if row.is_base
        else _interval_text(row.difference, row.low, row.high, row.too_few, row.holds_runs),
        "against base": row.verdict,
        "parameters": f"{row.parameters:,}",
        "s/epoch": f"{row.epoch_seconds:.1f}",
        "samples/s": f"{row.samples_per_second:,.0f}",
        "ms/batch": f"{row.inference_ms:.1f}",
    }
    second = _interval_text(row.against, row.against_low, row.against_high, row.against_too_few, row.against_holds_runs)
    return [known.get(name, second) for name in names]


def as_markdown(rows: Sequence[Row], against: str | None = None) -> str:
    """Return the table in Markdown."""
    names = header(rows, against)
    return padded_table(names, [cells(row, names) for row in rows])


def _with_std(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def _interval_text(mean: float | None, *of_interval: Any) -> str:
    return "-" if mean is None else Interval(mean, *of_interval).text("+.4f")


def as_csv(rows: Sequence[Row]) -> str:
    """Return all attributes of the rows and the verdict as CSV, at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*(field.name for field in fields(Row)), "verdict"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) | {"verdict": row.verdict} for row in rows)
    return text.getvalue()
