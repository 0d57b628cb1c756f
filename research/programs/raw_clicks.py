"""Write a synthetic log as large as Taobao's, as a folder of Parquet files.

    python -m research.programs.raw_clicks data/raw/clicks --share 0.04

One file at a time is in memory. The numbers of users, items, categories, behaviours and days are those of the public
log. Users are equally active; the popularity of items falls with the power 0.6 of their rank, that of categories in
number of items with 0.8. Everything else is random: nothing can be learned from it.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from dien_fuxictr.dataset.generate_sample import zipf
from dien_fuxictr.dataset.samples.protocols import DAY

CHUNK = 1_000_000
"""Rows of a file."""
POWER = 0.6
START, DAYS = 1_511_539_200, 9
"""2017-11-24 16:00 UTC, midnight in China."""


class Clicks(NamedTuple):
    """Sizes of a log."""

    users: int = 1_000_000
    items: int = 4_000_000
    behaviours: int = 100_000_000
    categories: int = 9_400

    def share(self, share: float) -> "Clicks":
        """Return a smaller log with equal numbers of behaviours per user and per item."""
        users, items, behaviours = (max(1, round(share * number)) for number in self[:3])
        return Clicks(users, items, behaviours, self.categories)


def write_clicks(folder: Path, log: Clicks, seed: int) -> None:
    """Write part-00000.parquet and so on.

    Columns are user, item, category (text) and time (seconds).
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    category = rng.choice(log.categories, log.items, p=zipf(log.categories, 0.8))
    for number, first in enumerate(range(0, log.behaviours, CHUNK)):
        rows = min(CHUNK, log.behaviours - first)
        # by inversion of the distribution function
        item = (log.items * rng.random(rows) ** (1 / (1 - POWER))).astype(np.int64)
        part = pl.DataFrame(
            {
                "user": rng.integers(log.users, size=rows),
                "item": item,
                "category": category[item],
                "time": START + rng.integers(DAYS * DAY, size=rows),
            }
        )
        part = part.with_columns(pl.exclude("time").cast(pl.String))
        part.write_parquet(folder / f"part-{number:05}.parquet", row_group_size=CHUNK // 10)


def main(arguments: list[str] | None = None) -> int:
    """Write the log; return an exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m research.programs.raw_clicks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="folder for part-00000.parquet and so on")
    parser.add_argument(
        "--share", type=float, default=1.0, metavar="S", help="share of the users, items and behaviours; default 1"
    )
    parser.add_argument("--seed", type=int, default=2019, help="seed of the random numbers; default %(default)s")
    options = parser.parse_args(arguments)
    write_clicks(options.folder, Clicks().share(options.share), options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
