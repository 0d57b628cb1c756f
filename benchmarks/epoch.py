"""Measure the cost of an epoch besides its training steps, and a run's start.

`run_expid.py` trains the experiment for one epoch and for two, in a temporary folder with a data set built there
before: the difference is a whole epoch (loading, steps, validation with its metrics, checkpoint, resume state). In
this process equal steps run on prepared batches, and the loader runs alone. The start ends with the first step, at
which the log of the run appears.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.dataset.samples.build_options import RAW_FILES
from dien_fuxictr.dataset.samples.protocols import SPLITS
from dien_fuxictr.experiment.configuration.config import BASE
from dien_fuxictr.experiment.configuration.overrides import add_set_option
from dien_fuxictr.experiment.configuration.yaml_files import write_config

from .clock import interleaved
from .report import Row, make_parser, publish

ROOT = Path(__file__).parents[1]
EPOCH, STEPS, LOADER, START = "whole epoch", "training steps alone", "loader alone", "start to first step"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return an exit code, 2 for a missing experiment."""
    parser = make_parser("benchmarks.epoch", __doc__ or "", rounds=2)
    add_experiment(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options, arguments), "interrupted")


def add_experiment(parser: argparse.ArgumentParser, default: str | None = "DIEN_amazon") -> None:
    """Add `--config`, `--expid` and `--set`."""
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / "config",
        metavar="DIR",
        help="folder of model_config and dataset_config; default: this project's",
    )
    parser.add_argument(
        "--expid", default=default, metavar="ID", help=f"experiment id{(default and f'; default {default}') or ''}"
    )
    add_set_option(parser)


def _run(options: argparse.Namespace, arguments: Sequence[str] | None) -> int:
    with TemporaryDirectory() as folder:
        experiment = moved(options.config, options.expid, Path(folder), dict(options.settings))
        params = experiment.params
        timed_run(params, 1)
        runs = [
            (timed_run(params, 1), timed_run(params, 2))
            for _ in tqdm(range(options.rounds), "runs", leave=False, disable=None)
        ]
        title = f"An epoch of {options.expid}, batches of {params['batch_size']}"
        rows = epoch_rows(runs, *bare_times(experiment, options.rounds))
    publish("benchmarks.epoch", {title: rows, "Ratios": [ratios(rows)]}, json_file=options.json, arguments=arguments)
    return 0


def moved(config: Path, expid: str, folder: Path, settings: dict[str, Any] | None = None) -> Experiment:
    """Return the experiment with its outputs below `folder`, and inputs unchanged."""
    own = {
        "data_root": str(folder / "data"),
        "model_root": str(folder / "checkpoints"),
        "verbose": 0,
        "early_stop_patience": sys.maxsize,
    }
    experiment = open_experiment(expid, config, overrides={**(settings or {}), **own})
    params = experiment.params
    inputs, names = (params["build"], RAW_FILES) if params.get("build") else (params, [f"{s}_data" for s in SPLITS])
    inputs |= {name: str(Path(inputs[name]).absolute()) for name in names if inputs.get(name)}
    return experiment


def timed_run(params: dict[str, Any], epochs: int) -> tuple[float, float]:
    """Return the seconds of a run to its first step, and from there to its end."""
    folder, expid = Path(params["data_root"]).parent, params["model_id"]
    entry = {key: value for key, value in params.items() if key != "model_id"} | {"epochs": epochs}
    write_config(folder / "config" / "model_config.yaml", {BASE: {}, expid: entry})
    write_config(folder / "config" / "dataset_config.yaml", {params["dataset_id"]: {"data_root": params["data_root"]}})
    log = Path(params["model_root"], params["dataset_id"], f"{expid}.log")
    log.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / "run_expid.py"), "--config", "config", "--expid", expid]
    start = time.perf_counter()
    with open(folder / "output", "w+") as output:
        run = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        while not log.exists() and run.poll() is None:
            time.sleep(0.002)
        first_step = time.perf_counter()
        if run.wait():
            output.seek(0)
            raise RuntimeError(f"run_expid.py failed:\n{output.read()}")
    return first_step - start, time.perf_counter() - first_step


def bare_times(experiment: Experiment, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Return seconds of an epoch's steps and of its loader, and the batch count."""
    trainer = experiment.trainer()
    loader, _ = experiment.prepare().train_loaders(experiment.model.feature_map)
    batches = list(loader)
    experiment.model.train()

    def steps() -> None:
        for batch in batches:
            trainer.train_step(batch)

    def loading() -> None:
        for _ in loader:
            pass

    return interleaved({STEPS: steps, LOADER: loading}, rounds), len(batches)


def epoch_rows(
    runs: Sequence[tuple[tuple[float, float], tuple[float, float]]], bare: dict[str, list[float]], batches: int
) -> list[Row]:
    """Return rows of epoch, steps, loader and start.

    The epoch is the best run of two epochs minus the best run of one.

    Args:
        runs: per round the `timed_run` of one epoch and of two.
        bare: times of `bare_times`.
        batches: number of batches of `bare_times`.
    """
    (starts, rests), (starts_of_two, rests_of_two) = (zip(*which, strict=True) for which in zip(*runs, strict=True))

    def row(what: str, seconds: float, every: Sequence[float], of: int | None) -> Row:
        return {"": what, "s": seconds, "batches/s": of / seconds if of else None, "seconds": list(every)}

    return [
        row(EPOCH, min(rests_of_two) - min(rests), [*rests, *rests_of_two], batches),
        *(row(what, min(seconds), seconds, batches) for what, seconds in bare.items()),
        row(START, min(*starts, *starts_of_two), [*starts, *starts_of_two], None),
    ]


def ratios(rows: Sequence[Row]) -> Row:
    """Return the ratios of times in `epoch_rows`."""
    seconds = {row[""]: row["s"] for row in rows}
    steps = seconds[STEPS]
    return {"epoch / bare steps": seconds[EPOCH] / steps, "bare steps / loader": steps / seconds[LOADER]}


if __name__ == "__main__":
    sys.exit(main())
