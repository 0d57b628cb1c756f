"""Train what `build_dataset.py ... --entry` writes for ten data sets.

    python -m research.programs.own_log                            # all
    python -m research.programs.own_log movielens_1 --seeds 3 --models DIEN_GRU

One row of results is added per run. Each data set is built in `data/own_SET`, and its entry is written to
`data/own_log/config`. The synthetic logs are generated; the raw files of Beauty and MovieLens must be where
`config/dataset_config` names them. Runs that have a row are skipped. research/own_log.md has the results.
"""

import argparse
import csv
import datetime
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch

from dien_fuxictr import open_experiment
from dien_fuxictr.common.errors import run_command
from dien_fuxictr.common.revision import revision
from dien_fuxictr.dataset.generate_log import main as generate_log
from dien_fuxictr.experiment.build_dataset import main as build_dataset

CONFIG = Path("data/own_log/config")
LOGS = Path("data/own_log/logs")
ROWS = Path("research/own_log.csv")
MODELS = ("DIEN_GRU", "DIEN", "DIN", "EmbeddingMLP")
_BEAUTY = "amazon --reviews data/raw/reviews_Beauty_5.json.gz --meta data/raw/meta_Beauty.json.gz --session-gap 604800"
_SAMPLE = (
    "amazon --reviews data/amazon_sample/reviews_Sample_5.json.gz --meta data/amazon_sample/meta_Sample.json.gz"
    " --max-len 50 --session-gap 604800"
)
_MOVIELENS = (
    "log --input data/raw/ml-100k/ml-100k.inter --items data/raw/ml-100k/ml-100k.item --user user_id --item item_id"
    " --category class --time timestamp --test-last 10 --exclude-history --session-gap 3600"
)
_SYNTHETIC = f"log --input {LOGS}/{{log}}.parquet --user user --item item --category category --time time"
_CLICKS = f"{_SYNTHETIC} --side shop"
_EXPOSURES = (
    f"{_SYNTHETIC} --side shop,brand,price --label click --request request --target target --protocol window"
    " --target-days 51"
)
SETS = {
    "sample": _SAMPLE,
    "clicks_2k": _CLICKS.format(log="clicks_25"),
    "clicks_20k": _CLICKS.format(log="clicks_250"),
    "clicks_200k": _CLICKS.format(log="clicks_2500"),
    "exposures": _EXPOSURES.format(log="exposures_500"),
    "beauty_last": f"{_BEAUTY} --protocol last",
    "beauty": _BEAUTY,
    "movielens_1": f"{_MOVIELENS} --targets-per-user 1",
    "movielens_4": f"{_MOVIELENS} --targets-per-user 4",
    "movielens": _MOVIELENS,
}
"""Name of a data set -> arguments of `build_dataset.py`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, write and return an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.own_log",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"data sets of {', '.join(SETS)}; default all")
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=MODELS, metavar="MODEL", help="models to train; default all"
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="number of seeds, from 2019 on; default %(default)s"
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="largest number of epochs; default: the experiment's")
    parser.add_argument(
        "--rows", type=Path, default=ROWS, metavar="FILE", help="CSV file of results; default %(default)s"
    )
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.sets if name not in SETS]:
        parser.error(f"unknown data set {unknown[0]}; there are {', '.join(SETS)}")
    return run_command(lambda: _run(options), "interrupted; finished runs have a row")


def _run(options: argparse.Namespace) -> int:
    for name in options.sets or SETS:
        dataset = f"own_{name}"
        counts = _entry(dataset, SETS[name])
        for model in options.models:
            for seed in range(2019, 2019 + options.seeds):
                if (name, model, str(seed)) not in _done(options.rows):
                    row = {
                        "data": name,
                        "model": model,
                        "seed": seed,
                        **counts,
                        **_trained(f"{model}_{dataset}", options.epochs, seed),
                    }
                    _add(options.rows, row)
                    print(row, flush=True)
    return 0


def _entry(dataset: str, build: str) -> dict[str, Any]:
    """Build a data set and write its entry, once; return its counts.

    The counts determine its settings.
    """
    if not (CONFIG / "model_config" / f"{dataset}.yaml").exists():
        if str(LOGS) in build:
            _generate(Path(build.split()[2]))
        if build_dataset([*build.split(), "--entry", dataset, "--config", str(CONFIG)]):
            raise SystemExit(2)
    counts = json.loads(Path("data", dataset, "samples", "samples.json").read_text(encoding="utf-8"))["counts"]
    return {"users": counts["users"], "items": counts["items"], **counts["train"]}


def _generate(file: Path) -> None:
    """Write a synthetic log of exposures, or of clicks, named by its users."""
    kind, users = file.stem.split("_")
    exposures = file.with_name(f"exposures_{users}.parquet")
    if not exposures.exists():
        generate_log(["--users", users, "--out", str(exposures)])
    if kind == "clicks":
        log = pl.read_parquet(exposures).filter(pl.col("click") == 1)
        log.select("user", "item", "category", "time", "shop").write_parquet(file)


def _trained(expid: str, epochs: int | None, seed: int) -> dict[str, Any]:
    """Train an experiment; return its settings and metrics."""
    start = time.perf_counter()
    run = open_experiment(
        expid, CONFIG, overrides={"seed": seed, "verbose": 0, **({"epochs": epochs} if epochs else {})}
    )
    params = run.params
    run.fit()
    seconds = time.perf_counter() - start
    metrics = {split: evaluation.metrics for split, evaluation in run.evaluate().items()}
    return {
        "embedding_regularizer": params["embedding_regularizer"],
        "batch_size": params["batch_size"],
        "aux_loss_alpha": params.get("aux_loss_alpha", ""),
        "epochs": params["epochs"],
        "valid_AUC": f"{metrics['valid']['AUC']:.6f}",
        "test_AUC": f"{metrics['test']['AUC']:.6f}",
        "seconds": f"{seconds:.0f}",
        "commit": revision(Path(__file__).parents[2]) or "",
        "torch": torch.__version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def _done(file: Path) -> set[tuple[str, str, str]]:
    if not file.exists():
        return set()
    with open(file, encoding="utf-8", newline="") as rows:
        return {(row["data"], row["model"], row["seed"]) for row in csv.DictReader(rows)}


def _add(file: Path, row: dict[str, Any]) -> None:
    is_new = not file.exists()
    with open(file, "a", encoding="utf-8", newline="") as rows:
        writer = csv.DictWriter(rows, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    sys.exit(main())
