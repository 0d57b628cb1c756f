"""The table of a comparison: one row a system, over its seeds, beside a base."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from dien_fuxictr.common.markdown import padded_table

from .statistics import draw_runs, paired_difference


@dataclass(frozen=True)
class Row:
    """One system.

    Attributes:
        expid: experiment id. runs: seeds that have finished.
        auc, gauc, logloss: mean over the seeds on the test set; *_std: standard deviation; None for one seed.
        improvement: the paper's RI over the base, (AUC - .5) / (AUC of the base - .5) - 1.
        difference, low, high: the AUC minus the base's and its 95 % interval, see `statistics`; None for the base.
        holds_runs: whether the interval has the noise of the runs; else one run of it or of the base is all there is.
        first, last: the places that the row may have: rows whose intervals overlap are not ranked among each other.
        parameters: number of trained weights. epochs: mean number of epochs until the stop.
        epoch_seconds: training time of an epoch. samples_per_second: of training, loading included.
        inference_ms: of the forward pass, a batch.
    """

    expid: str
    runs: int
    auc: float
    auc_std: float | None
    gauc: float | None
    gauc_std: float | None
    logloss: float | None
    logloss_std: float | None
    improvement: float
    difference: float | None
    low: float | None
    high: float | None
    holds_runs: bool
    parameters: int
    epochs: float
    epoch_seconds: float
    samples_per_second: float
    inference_ms: float
    first: int = 1
    last: int = 1

    @property
    def verdict(self) -> str:
        """What the interval says of the row against the base; nothing where it lacks the noise of the runs."""
        if self.low is None or self.high is None:
            return "base"
        if not self.holds_runs:
            return "one run"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "not ranked"


def make_rows(
    results: dict[str, list[dict[str, Any]]], predictions: dict[str, list[dict[str, np.ndarray]]], base: str
) -> list[Row]:
    """The rows, best AUC first.

    Args:
        results: expid -> result.json of each of its runs. predictions: expid -> predictions.npz of the same runs.
        base: the expid that the others stand against.
    """
    draws = {expid: draw_runs(runs) for expid, runs in predictions.items()}
    base_auc = np.mean([result["test"]["AUC"] for result in results[base]])
    rows = []
    for expid, runs in results.items():
        auc, auc_std = _over_seeds(runs, "AUC")
        against = None if expid == base else paired_difference(draws[base], draws[expid])
        seconds = sum(run["train_seconds"] for run in runs)
        epochs = sum(run["epochs"] for run in runs)
        rows.append(
            Row(
                expid,
                len(runs),
                auc,
                auc_std,
                *_if_measured(runs, "gAUC"),
                *_if_measured(runs, "logloss"),
                float((auc - 0.5) / (base_auc - 0.5) - 1),
                against and against.mean,
                against and against.low,
                against and against.high,
                against is None or against.holds_runs,
                runs[0]["parameters"],
                epochs / len(runs),
                seconds / epochs,
                sum(run["train_rows"] for run in runs) / seconds,
                float(np.mean([run["inference_ms"] for run in runs])),
            )
        )
    return _placed(sorted(rows, key=lambda row: -row.auc))


def _placed(rows: list[Row]) -> list[Row]:
    """With the places that the intervals leave each; an interval without the noise of the runs leaves all."""
    wide = [0 if row.holds_runs else np.inf for row in rows]
    lows = np.array([row.low or 0 for row in rows]) - wide
    highs = np.array([row.high or 0 for row in rows]) + wide
    first, last = 1 + (lows > highs[:, None]).sum(axis=1), len(rows) - (highs < lows[:, None]).sum(axis=1)
    return [replace(row, first=int(first[i]), last=int(last[i])) for i, row in enumerate(rows)]


def _over_seeds(runs: list[dict[str, Any]], metric: str) -> tuple[float, float | None]:
    values = [run["test"][metric] for run in runs]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def _if_measured(runs: list[dict[str, Any]], metric: str) -> tuple[float | None, float | None]:
    return _over_seeds(runs, metric) if all(metric in run["test"] for run in runs) else (None, None)


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


def cells(row: Row) -> list[str]:
    """The row under `HEADER`, for people."""
    place = f"{row.first}" if row.first == row.last else f"{row.first}-{row.last}"
    return [
        place,
        row.expid,
        _with_std(row.auc, row.auc_std),
        _with_std(row.gauc, row.gauc_std),
        _with_std(row.logloss, row.logloss_std),
        f"{row.improvement:+.2%}",
        "" if row.low is None else _with_interval(row),
        row.verdict,
        f"{row.parameters:,}",
        f"{row.epoch_seconds:.1f}",
        f"{row.samples_per_second:,.0f}",
        f"{row.inference_ms:.1f}",
    ]


def as_markdown(rows: Sequence[Row]) -> str:
    """The table as `HEADER` has it."""
    return padded_table(HEADER, [cells(row) for row in rows])


def _with_std(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.4f}" if std is None else f"{mean:.4f} ± {std:.4f}"


def _with_interval(row: Row) -> str:
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]{'' if row.holds_runs else ' of users alone'}"


def as_csv(rows: Sequence[Row]) -> str:
    """All attributes of the rows and the verdict, at full precision."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*(field.name for field in fields(Row)), "verdict"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) | {"verdict": row.verdict} for row in rows)
    return text.getvalue()
