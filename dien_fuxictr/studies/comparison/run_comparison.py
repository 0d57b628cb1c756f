"""Run a comparison, as the command line of `run_comparison.py` asks."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from dien_fuxictr.common.errors import UserError, fail
from dien_fuxictr.common.files import require_writable
from dien_fuxictr.common.lock import held
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.distributed.ray_runs import pool_of
from dien_fuxictr.experiment.checkout import Checkout
from dien_fuxictr.experiment.device import devices_of_runs
from dien_fuxictr.experiment.results import results_file

from ..runs.run import Run, note_changed_code, require_inputs
from ..runs.run_progress import run_with_progress
from .compare import compare
from .plan import BASE_MODEL, Comparison, experiment_ids, plan_comparison, plan_suite, read_experiments, write_runs
from .results_csv import ResultsCsv
from .results_table import as_markdown
from .suite import Suite, choose_experiments, list_suites, read_suite
from .zoo import zoo_entry


def run_comparison(options: argparse.Namespace, command: str) -> int:
    """Train what is left of a comparison and write its table.

    Args:
        options: options of the command line.
        command: that the table names.

    Returns:
        Exit code: 1 if a run failed or has learnt nothing.

    Raises:
        UserError: the suite, an experiment or an output is not what it must be.
    """
    devices = devices_of_runs(options.gpu, options.workers, options.cluster)
    if options.suite == "":
        print(list_suites(options.config))
        return 0
    if options.out:
        require_output("--out", options.out, kept={"--config": options.config}, holds_own=True)
    suite = read_suite(options.config, options.suite) if options.suite else None
    comparison = plan_suite(suite, options.config, options.out, dict(options.settings)) if suite else _plan(options)
    runs = comparison.runs(choose_experiments(suite, options.expids) if suite else None)
    require_writable(results_file(runs[0].config), append=True)  # by the runs
    record = _recorder(suite, comparison, options.config)
    left = [run for run in runs if run.result is None]
    require_inputs(left, options.config)
    write_runs(comparison.runs())
    finished = len(runs) - len(left)
    folder = comparison.folder
    print(
        f"{len(runs)} runs, {finished} finished already ({folder / 'runs'}); logs in {folder / 'logs'}", file=sys.stderr
    )
    note_changed_code(runs)
    cluster = options.cluster if left else None
    with held(folder / ".lock", f"comparison {folder}"), pool_of(cluster, devices) as pool:
        for run in runs:
            record(run)
        failed = run_with_progress(left, pool, finished, record)
    rows = compare(comparison, command)
    print(as_markdown(rows, comparison.against))
    if failed:
        return fail(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}", 1)
    untrained = [run.expid for run in runs if (result := run.result) and "untrained" in result]
    if untrained and not options.allow_untrained:
        count = f"{len(untrained)} of {len(runs)} runs have learnt nothing"
        return fail(f"{count}: {', '.join(untrained)}; --allow-untrained ends with exit code 0", 1)
    return 0


def _plan(options: argparse.Namespace) -> Comparison:
    """Return the comparison of the experiments that the command line names."""
    chosen, settings = list(options.expids), dict(options.settings)
    if options.dataset or options.tag:
        found = experiment_ids(options.config, options.dataset, options.tag)
        if not found:
            asked = [f"--{name} {getattr(options, name)}" for name in ("dataset", "tag") if getattr(options, name)]
            raise UserError(f"{options.config} has no experiment with {' and '.join(asked)}")
        chosen += found
    checkout = Checkout(options.zoo) if options.zoo else None
    experiments = read_experiments(options.config, chosen, checkout, settings)
    base = options.base or next(
        (expid for expid, params in experiments.items() if params["model"] == BASE_MODEL), next(iter(experiments))
    )
    if base not in experiments:
        raise UserError(f"--base {base} must be one of the experiments: {', '.join(experiments)}")
    if checkout:
        for name in options.zoo_models:
            entry = zoo_entry(checkout, name, experiments[base])
            experiments.setdefault(entry["model_id"], entry)  # the user's own experiment has priority
    return plan_comparison(experiments, options.seeds or 1, options.out, settings, base)


def _recorder(suite: Suite | None, comparison: Comparison, config: Path) -> Callable[[Run], None]:
    """Return a function that adds a finished run to the suite's file of results."""
    if not suite or not suite.results:
        return lambda run: None
    require_output(f"results of suite {suite.name}:", suite.results, kept={"--config": config})
    require_writable(suite.results)
    return ResultsCsv(suite.results, suite.name, comparison, suite.folds is not None).add
