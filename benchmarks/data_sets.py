"""Measure the sizes of an experiment's data set, which `benchmarks.train_step --expid` makes batches of.

The data set is built if it does not exist. The program prints its line of benchmarks/data_sets.json: rows of the
vocabularies, and percentiles of the lengths of the training rows' histories.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dien_fuxictr import Experiment, open_experiment
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.experiment.models import load_feature_map

from .epoch import add_experiment
from .synthetic_batches import HISTORIES

FILE = Path(__file__).with_suffix(".json")
PERCENTILES = range(101)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return an exit code, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_sets",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_experiment(parser)
    options = parser.parse_args(arguments)
    return run_command(lambda: _run(options), "interrupted")


def _run(options: argparse.Namespace) -> int:
    experiment = open_experiment(options.expid, options.config, overrides=dict(options.settings))
    print(f"{json.dumps(experiment.entry.dataset_id)}: {json.dumps(measure(experiment))}")
    return 0


def measure(experiment: Experiment) -> dict[str, Any]:
    """Return the row of the experiment's data set.

    Raises:
        UserError: its behaviours are not items with their categories.
    """
    data = experiment.prepare()
    feature_map = load_feature_map(data.params)
    missing = [name for name in (*HISTORIES, *HISTORIES.values()) if name not in feature_map.features]
    if missing:
        raise UserError(f"data set {experiment.entry.dataset_id} lacks {', '.join(missing)}")
    loader, _ = data.train_loaders(feature_map)
    lengths = np.concatenate([(batch["item_history"] > 0).sum(dim=1).numpy() for batch in loader])
    return {
        "items": feature_map.features["item_id"]["vocab_size"],
        "categories": feature_map.features["cate_id"]["vocab_size"],
        "max_len": feature_map.features["item_history"]["max_len"],
        "lengths": [round(length) for length in np.percentile(lengths, PERCENTILES)],
    }


if __name__ == "__main__":
    sys.exit(main())
