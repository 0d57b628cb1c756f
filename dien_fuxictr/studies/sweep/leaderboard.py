"""Table of a sweep: its finished runs, best validation first."""

import contextlib
import csv
import io
import math
from pathlib import Path
from typing import Any

from dien_fuxictr.common.files import write_atomic

from ..runs.run import Run

_LONG = 10  # a metric is shorter
_WIDEST = 32  # longer values, such as a data set's columns, are only in the CSV


def build_leaderboard(runs: list[Run], results: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    """Build the table, one row per finished run, best validation first, NaN last.

    Args:
        runs: runs of the sweep.
        results: experiment id -> result.json of finished runs.

    Returns:
        Rows with equal columns: rank, expid, `untrained` if models have learnt nothing, every key in which the runs
        differ, the monitor if it is a sum of metrics, and the metrics of validation and test.
    """
    names = dict.fromkeys(key for run in runs for key in run.params if key != "model_id")
    differing = [name for name in names if len({repr(run.params.get(name)) for run in runs}) > 1]
    some_untrained = any("untrained" in result for result in results.values())
    rows = []
    for rank, run in enumerate(rank_runs(runs, results), 1):
        result = results[run.expid]
        row = {"rank": str(rank), "expid": run.expid}
        if some_untrained:
            row["untrained"] = "yes" if "untrained" in result else ""
        row |= {name: str(run.params.get(name, "")) for name in differing}
        if len(run.monitor.get_metrics()) > 1:
            row["monitor"] = f"{run.monitor.get_value(result['valid']):.6f}"
        row |= {f"val {name}": f"{value:.6f}" for name, value in result["valid"].items()}
        row |= {f"test {name}": f"{value:.6f}" for name, value in result["test"].items()}
        rows.append(row)
    columns = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in columns} for row in rows]


def rank_runs(runs: list[Run], results: dict[str, dict[str, Any]]) -> list[Run]:
    """Return the finished runs, best validation first; see `build_leaderboard`."""

    def order(run: Run) -> tuple[bool, float]:
        value = run.monitor.get_value(results[run.expid]["valid"])
        return math.isnan(value), value if run.is_minimised else -value

    return sorted((run for run in runs if run.expid in results), key=order)


def render_table(rows: list[dict[str, str]]) -> str:
    """Return the rows as aligned text, numbers with six digits."""
    rows = [{name: _short(value) for name, value in row.items()} for row in rows]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    shown = [name for name, width in widths.items() if width <= _WIDEST or name == "expid"]
    lines = [dict(zip(shown, shown, strict=True)), *rows]
    return "\n".join("  ".join(line[name].ljust(widths[name]) for name in shown).rstrip() for line in lines)


def _short(value: str) -> str:
    with contextlib.suppress(ValueError):
        return value if len(value) < _LONG or "." not in value else f"{float(value):.6g}"
    return value


def write_csv(rows: list[dict[str, str]], file: Path) -> None:
    """Write the rows, all columns.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(file, lambda output: output.write(text.getvalue().encode()))
