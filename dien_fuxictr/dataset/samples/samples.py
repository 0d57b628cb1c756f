"""Labelled samples whose histories are ranges of one table of behaviours.

A folder of samples contains

- `behaviours.parquet`: one row per behaviour, sorted by user, time and tie; `item_history`, `cate_history` if the log
  has categories, a `<name>_history` for each side column and each column of the context that histories contain and, for
  a log of exposures, `neg_<history column>` of the item that was shown and not clicked (empty if there is none),
  `session_history` and `day_history` (see `time_tokens`), all String; `time` (Int64, seconds), `user_id` (String). With
  `history_order: shuffled` each history has its own behaviours, and equal values of `behaviour` (Int64) mark copies of
  one behaviour.
- `train.parquet`, `valid.parquet`, `test.parquet`: `label` (Int8), `user_id`, `item_id`, `cate_id`, the side columns
  and the context (String), `history_start` (Int64, row of behaviours.parquet), `history_length` (Int32). The rows of a
  split are in a seeded random order.
- `left_out.parquet`, likewise: training rows that `targets_per_user` leaves out, if any. Vocabularies and the catalogue
  of behaviours also count these rows, so that they do not depend on the number of targets.
- `samples.json`: the options, counts and audit of the build.

Each behaviour is stored once, whatever the number of histories that contain it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.progress import progress_bar

from .protocols import SPLITS
from .ranges import members

LEADING = ("label", "user_id", "item_id", "cate_id", "item_history", "cate_history")
LEFT_OUT = "left_out"
"""Name of the file of training rows that are not trained on."""
SPLITTER = "^"
"""Separator of the behaviours of a history in a CSV file."""
CSV_ROWS = 100_000
"""Rows that are joined to text at once."""


def save_info(info: dict, folder: Path) -> None:
    """Write samples.json into an existing folder."""
    (folder / "samples.json").write_text(json.dumps(info, indent=2, default=str) + "\n")


def samples_in(folder: Path) -> Path:
    """Return the samples folder of a built data set; any other folder itself."""
    samples = folder / "samples"
    return samples if samples.is_dir() else folder


def info_in(folder: Path) -> dict:
    """Return samples.json of a samples folder; empty without a build.

    Raises:
        UserError: samples.json is not from a build.
    """
    path = folder / "samples.json"
    if not path.is_file():
        return {}
    try:
        info = json.loads(path.read_text())
        info["options"]["max_len"]  # every build has it
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path} was not written by a build ({error!r}); move it away") from error
    return info


def options_in(folder: Path) -> dict:
    """Return the options of the build of a samples folder; see `info_in`."""
    return info_in(folder).get("options", {})


def latest_kept(folder: Path) -> int | None:
    """Return the number of most recent behaviours that a build cut histories to.

    The result is None for a folder without a build.

    Raises:
        UserError: samples.json is not from a build.
    """
    return options_in(folder).get("max_len")


def filled_in(folder: Path) -> set[str]:
    """Return the columns of samples in which the build writes an empty value as `amazon.UNKNOWN`.

    The set is empty for a folder without a build.

    Raises:
        UserError: samples.json is not from a build.
    """
    options = options_in(folder)
    return {"cate_id", *options.get("side", ()), *options.get("context", ())} if options else set()


@dataclass(frozen=True)
class Samples:
    """A folder of samples in memory; the module says what is in the tables.

    Attributes:
        behaviours: behaviours.parquet.
        splits: train, valid, test -> its rows.
        info: samples.json.
        left_out: left_out.parquet; None where every training row is one of `train`.
    """

    behaviours: pl.DataFrame
    splits: dict[str, pl.DataFrame]
    info: dict
    left_out: pl.DataFrame | None = None

    @property
    def history_columns(self) -> list[str]:
        """Return the columns of a behaviour that a CSV file joins to a history."""
        return [name for name in self.behaviours.columns if name.endswith("_history")]

    def save(self, folder: Path) -> None:
        """Write the Parquet files into an existing folder."""
        self.behaviours.write_parquet(folder / "behaviours.parquet")
        for name, rows in self._tables_of_rows().items():
            rows.write_parquet(folder / f"{name}.parquet")

    def _tables_of_rows(self) -> dict[str, pl.DataFrame]:
        return self.splits if self.left_out is None else {**self.splits, LEFT_OUT: self.left_out}

    @classmethod
    def load(cls, folder: Path) -> "Samples":
        """Read a folder.

        Raises:
            UserError: it is not a folder of samples.
        """
        tables = {}
        for name in ("behaviours", *SPLITS):
            path = Path(folder) / f"{name}.parquet"
            if not path.is_file():
                raise UserError(f"{folder} is not a folder of samples: {path.name} is missing")
            tables[name] = pl.read_parquet(path)
        info = Path(folder) / "samples.json"
        behaviours = tables.pop("behaviours")
        left_out = Path(folder) / f"{LEFT_OUT}.parquet"
        return cls(
            behaviours,
            tables,
            json.loads(info.read_text()) if info.is_file() else {},
            pl.read_parquet(left_out) if left_out.is_file() else None,
        )

    def save_csv(self, folder: Path, verbose: bool = True) -> None:
        """Write train, valid and test.csv in the form of AmazonElectronics_x1.

        A row is a sample, with the behaviours of its history joined by "^"; `build_samples` refuses values that contain
        it.
        """
        for name, rows in self._tables_of_rows().items():
            with (
                open(folder / f"{name}.csv", "wb") as file,
                progress_bar(verbose=verbose, total=rows.height, unit="rows", desc=f"{name}.csv") as progress,
            ):
                for number, part in enumerate(self.joined(rows)):
                    part.write_csv(file, include_header=number == 0)
                    progress.update(part.height)

    def joined(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Yield parts of a split with histories as text."""
        for part in rows.iter_slices(CSV_ROWS):
            ranges = part["history_start"].to_numpy(), part["history_length"].to_numpy()
            lists = as_lists(self.behaviours.select(self.history_columns), *ranges)
            leading = [name for name in LEADING if name in part.columns or name in lists.columns]
            yield part.hstack(lists.select(pl.all().list.join(SPLITTER))).select(
                *leading, pl.exclude(*leading, "history_start", "history_length")
            )


def as_lists(behaviours: pl.DataFrame, start: np.ndarray, length: np.ndarray) -> pl.DataFrame:
    """Return histories as lists, one per range of the behaviours.

    Args:
        behaviours: columns of the table.
        start: (N,) first behaviour of each range.
        length: (N,) number of behaviours of each range.

    Returns:
        (N,) List(String) in each of the columns, empty for an empty history.
    """
    flat, sample = members(start, length)
    histories = behaviours[flat].with_columns(sample=sample)
    lists = histories.group_by("sample", maintain_order=True).agg(pl.all())
    rows = pl.DataFrame({"sample": np.arange(len(start))})
    return (
        rows.join(lists, on="sample", how="left", maintain_order="left")
        .drop("sample")
        .with_columns(pl.all().fill_null(pl.lit([], pl.List(pl.String))))
    )
