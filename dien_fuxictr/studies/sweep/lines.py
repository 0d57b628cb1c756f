"""The zoo's lines of results, of runs that have written no result.json.

Those of an earlier version, which read these lines, and those of `run_expid.py` without `--report`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from dien_fuxictr.common.files import write_atomic
from dien_fuxictr.experiment.report import RESULT
from dien_fuxictr.experiment.training.resume import as_text

from ..runs.run import Run

# Of a line that a kill has cut short nothing matches.
_LINE = re.compile(
    r"\[exp_id\] ([^\[\],]+),\[dataset_id\] [^\[\]]*,\[train\] [^\[\]]*,\[val\] ([^\[\]]*),\[test\] ([^\[\]]*)$"
)


def take_over(runs: Sequence[Run], file: Path) -> int:
    """Make result.json, for runs that have no files, of their lines.

    The ids of a grid and of a search change with the configuration, so that a line is of the one it is taken for. Those
    of a configuration folder do not.

    Args:
        runs: of a sweep.
        file: the lines; need not exist.

    Returns:
        The number of results.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    results = {found[1]: (_metrics(found[2]), _metrics(found[3])) for found in map(_LINE.search, lines) if found}
    taken = [run for run in runs if run.expid in results and not run.report.exists()]
    for run in taken:
        valid, test = results[run.expid]
        result = {"expid": run.expid, "valid": valid, "test": test, "config": as_text(run.params), "from": str(file)}
        text = json.dumps(result, indent=2).encode()
        write_atomic(run.report / RESULT, lambda output, text=text: output.write(text))
    return len(taken)


def _metrics(text: str) -> dict[str, float]:
    """Metrics by name, of `AUC: 0.800000 - logloss: 0.300000`."""
    pairs = (part.rsplit(": ", 1) for part in text.split(" - ") if part)
    return {name: float(value) for name, value in pairs}
