"""The first training steps of an experiment's first epoch, and its loader alone.

    python -m research.programs.first_steps DIEN_amazon --steps 50

builds the data set if it is not there. What is printed last is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.first_steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("expid", help="experiment id")
    parser.add_argument(
        "--config", type=Path, default=Path("config"), metavar="DIR", help="configuration folder; default %(default)s"
    )
    parser.add_argument(
        "--steps", type=int, default=1000, metavar="N", help="steps of loading and of training; default %(default)s"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options), "interrupted")


def _run(options: argparse.Namespace) -> int:
    experiment = open_experiment(options.expid, options.config)
    trainer = experiment.trainer()
    loader, _ = experiment.prepare().train_loaders(experiment.model.feature_map)
    experiment.model.train()
    loading = seconds_of_each(loader, options.steps, lambda batch: None)
    training = seconds_of_each(loader, options.steps, trainer.train_step)
    print(json.dumps({"rows": loader.num_samples, "loading": loading, "training": training}))
    return 0


def seconds_of_each(loader: Iterable, steps: int, act: Callable) -> float:
    """Return the mean seconds per batch of a new epoch.

    One batch comes before them, untimed.
    """
    batches = iter(loader)
    act(next(batches))
    start, done = time.perf_counter(), 0
    for batch in islice(batches, steps):
        act(batch)
        done += 1
    return (time.perf_counter() - start) / done


if __name__ == "__main__":
    sys.exit(main())
