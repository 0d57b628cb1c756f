"""Compare the experiments of a comparison by quality and by latency.

AUC is the comparison's, on validation and test, with the paired difference of the test AUC to the experiments that
`--against` names (95 % interval of test users and runs). Parameters and time are those of the served model, the bundle
of an experiment's first run: a request of one user and their candidates, on one thread, in time of the processor, so
that other work on the machine has little effect. Run it where the comparison was run, which keeps the checkpoints.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.clock import take_turns
from benchmarks.report import Row, make_parser, publish
from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.serving.bundle import Bundle, open_bundle
from dien_fuxictr.serving.examples import made_request
from dien_fuxictr.serving.request import Limits, RequestReader, scorer_of
from dien_fuxictr.serving.write import write_bundle
from dien_fuxictr.studies.comparison.statistics import Scored, paired_difference, score_runs

Results = dict[str, list[dict[str, Any]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return an exit code, 2 for a wrong folder."""
    parser = make_parser("research.programs.pareto", __doc__ or "", rounds=9)
    parser.add_argument("comparisons", type=Path, nargs="+", metavar="FOLDER", help="folders of finished comparisons")
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="ID",
        help="experiments to show differences to, each in its comparison",
    )
    parser.add_argument("--behaviours", type=int, default=50, metavar="T", help="behaviours of the user; default 50")
    parser.add_argument("--candidates", type=int, default=200, metavar="N", help="candidates per request; default 200")
    options = parser.parse_args(arguments)
    if min(options.behaviours, options.candidates, options.rounds) < 1:
        parser.error("--behaviours, --candidates and --rounds must be 1 or more")
    return run_command(lambda: _run(options, arguments), "interrupted")


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    torch.set_num_threads(1)
    results = {folder: _results(folder) for folder in options.comparisons}
    known = {expid for found in results.values() for expid in found}
    for expid in options.against:
        if expid not in known:
            raise UserError(f"--against {expid} must be one of the experiments: {', '.join(sorted(known))}")
    tables = {f"Quality and latency, {folder}": _rows(folder, found, options) for folder, found in results.items()}
    notes = [
        f"ms: of the processor, one thread, a request of {options.behaviours} behaviours and {options.candidates} "
        f"candidates; the best of {options.rounds}; requests/s: so many fill a core with their scores alone"
    ]
    publish("research.programs.pareto", tables, notes, options.json, arguments=arguments)
    return 0


def _rows(comparison: Path, results: Results, options: argparse.Namespace) -> list[Row]:
    """Return one row per experiment, the best AUC first."""
    bundles = {expid: _bundle(comparison, runs[0]) for expid, runs in results.items()}
    timers = {
        expid: partial(cpu_seconds, _request(bundle, options.behaviours, options.candidates))
        for expid, bundle in bundles.items()
    }
    times = take_turns(timers, options.rounds)
    scored = {expid: _scored(comparison, runs) for expid, runs in results.items()}
    bases = [expid for expid in options.against if expid in results]
    return [
        {
            "experiment": expid,
            "seeds": len(runs),
            "validation AUC": _with_deviation(runs, "valid"),
            "test AUC": _with_deviation(runs, "test"),
            **{f"- {base}": _difference(scored, base, expid) for base in bases},
            "parameters": sum(weight.numel() for weight in bundles[expid].model.parameters()),
            "ms": 1000 * min(times[expid]),
            "requests/s": round(1 / min(times[expid])),
            "AUC": [run["test"]["AUC"] for run in runs],
            "seconds": times[expid],
        }
        for expid, runs in sorted(results.items(), key=lambda each: -_mean(each[1], "test"))
    ]


def cpu_seconds(task: Callable[[], Any], calls: int) -> float:
    """Return the mean processor seconds of a call."""
    start = time.process_time()
    for _ in range(calls):
        task()
    return (time.process_time() - start) / calls


def _results(comparison: Path) -> Results:
    """Return experiment id -> result.json of each of its runs."""
    file = comparison / "results.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} does not exist, or was not written by a comparison") from error


def _bundle(comparison: Path, run: Mapping[str, Any]) -> Bundle:
    experiment = open_experiment(run["expid"], comparison / f"comparison_{run['dataset_id']}")
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "bundle")
        write_bundle(experiment, folder, [])
        return open_bundle(folder)


def _request(bundle: Bundle, behaviours: int, candidates: int) -> Callable[[], Any]:
    """Return a function that does the model's work for a request that has been read."""
    inputs = RequestReader(bundle, Limits()).read(made_request(bundle.encoder, behaviours, candidates))
    return partial(scorer_of(bundle.model), inputs)


def _scored(comparison: Path, runs: Sequence[Mapping[str, Any]]) -> Scored:
    rows = []
    for run in runs:
        with np.load(comparison / "runs" / run["expid"] / "predictions.npz") as file:
            rows.append(dict(file))
    return score_runs(rows)


def _difference(scored: Mapping[str, Scored], base: str, expid: str) -> str:
    if expid == base:
        return ""
    found = paired_difference(scored[base], scored[expid])
    assert found, "all are on the same test rows"
    return found.text("+.4f")


def _mean(runs: Sequence[Mapping[str, Any]], split: str) -> float:
    return float(np.mean([run[split]["AUC"] for run in runs]))


def _with_deviation(runs: Sequence[Mapping[str, Any]], split: str) -> str:
    mean = f"{_mean(runs, split):.4f}"
    return f"{mean} ± {np.std([run[split]['AUC'] for run in runs], ddof=1):.4f}" if len(runs) > 1 else mean


if __name__ == "__main__":
    sys.exit(main())
