"""Roles of a log's columns, and the value of a column that a sample gets.

A property of the item, its category or brand, has one value wherever the item occurs. For a property that varies, such
as the price, a sample gets the last value before its time. Context, such as the device or the hour, belongs to the user
or the request: a positive and its sampled negative share it. If a column of the user were treated as a property of the
item, it would give the negatives away, since each would carry the value of another user's row.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN
from .build_options import BuildOptions
from .samples import options_in

ROWS = 1_000_000
"""So many rows of a log in files are looked at for columns that give negatives away."""
LIMIT = 0.01
"""Largest share of rows in which a property may differ from its item's commonest value."""
HISTORIES = {"item_id": "item_history", "cate_id": "cate_history"}


def history_of(column: str) -> str:
    """Return the name of the history column for a column."""
    return HISTORIES.get(column, f"{column}_history")


def column_of(history: str) -> str:
    """Return the column whose values a history column contains.

    The history column may be of clicks or of items that were not clicked.
    """
    short = history.removeprefix("neg_").removesuffix("_history")
    return next((column for column, name in HISTORIES.items() if name == f"{short}_history"), short)


@dataclass(frozen=True)
class Roles:
    """Columns of a log other than user, item, time and labels.

    Attributes:
        properties: properties of the item: cate_id, if the log has categories, and the side columns.
        varying: those properties whose value changes with time.
        context: columns of the user or the request.
        remembered: those columns of the context that are also in histories.
    """

    properties: list[str]
    varying: list[str]
    context: list[str]
    remembered: list[str]

    @property
    def of_behaviours(self) -> list[str]:
        """Return the columns that histories have."""
        return ["item_id", *self.properties, *self.remembered]

    @property
    def of_samples(self) -> list[str]:
        """Return the columns that samples have besides label, user and history."""
        return ["item_id", *self.properties, *self.context]


def roles_of(names: list[str], options: BuildOptions) -> Roles:
    """Return the roles of a log's columns, which have the builders' names.

    Args:
        names: columns of the log as it was read or sorted.
        options: options of the build.
    """
    context = [name for name in options.context if name in names]
    known = ("user_id", "item_id", "time", "label", "request", "target", "event_time", *context)
    named = {options.category: "cate_id"}
    return Roles(
        [name for name in names if name not in known],
        [name for name in (named.get(each, each) for each in options.side_varies) if name in names],
        context,
        list(options.context_history),
    )


def commonest(log: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """Return the most frequent known value of each property of each item.

    Of equally frequent values the smallest is returned.

    Args:
        log: item_id and the named columns (String).
        names: columns of the properties.

    Returns:
        item_id and the named columns, one row per item in order of appearance; null if no row has a known value.
    """
    items = log.select(pl.col("item_id").unique(maintain_order=True))
    for name in names:
        counted = log.filter(pl.col(name) != UNKNOWN).group_by("item_id", name).len()
        values = counted.sort("len", name, descending=[True, False]).unique(
            "item_id", keep="first", maintain_order=True
        )
        items = items.join(values.drop("len"), on="item_id", how="left", maintain_order="left")
    return items


def at_items(item: pl.Series, items: pl.DataFrame) -> pl.DataFrame:
    """Return the properties of some items, (N,) each, null for unknown ones.

    Args:
        item: (N,) item_id.
        items: item_id and the properties, one row per item.
    """
    return item.to_frame("item_id").join(items, on="item_id", how="left", maintain_order="left").drop("item_id")


def varying_in(log: pl.DataFrame, names: list[str]) -> dict[str, float]:
    """Return per property the share of rows that differ from the item's usual value.

    The usual value is the most frequent one; unknown values do not count.
    """
    return _differing(log, at_items(log["item_id"], commonest(log, names)))


def _differing(log: pl.DataFrame, values: pl.DataFrame) -> dict[str, float]:
    return {
        name: float(((log[name] != UNKNOWN) & (log[name] != values[name])).fill_null(False).sum()) / log.height
        for name in values.columns
    }


def require_property(name: str, share: float, options: BuildOptions) -> None:
    """Raise UserError if a column differs too often from the item's usual value."""
    if share > LIMIT:
        name = shown(name, options)
        raise UserError(
            f"column {name!r} is not a property of the item: it differs from the item's commonest value in "
            f"{share:.1%} of the rows; at most {LIMIT:.0%} may, since a sampled negative would carry the value of "
            "another user's row. Name it in --context if it belongs to the user or the request, or in --side-varies "
            "too if the item's value changes over time, as a price does"
        )


def columns_of_no_item(folder: Path) -> set[str]:
    """Return the columns of samples whose value does not depend on the item alone.

    These are context, properties that vary, and leaking columns.

    Args:
        folder: a folder of samples, or any other.
    """
    options = options_in(folder)
    varying = ("cate_id" if name == options.get("category") else name for name in options.get("side_varies", ()))
    return {*varying, *options.get("context", ()), *leaking_columns(folder)}


def leaking_columns(folder: Path) -> list[str]:
    """Return the properties in samples that give their negatives away.

    An older build treated columns of the user as properties of the item.

    Args:
        folder: folder of samples; without samples, or with those of a newer build, the result is empty.
    """
    options = options_in(folder)
    if options.get("source") != "log" or options.get("label") or "context" in options:
        return []
    names = ["cate_id", *options.get("side", ())]
    if (folder / "behaviours.parquet").is_file():
        columns = [pl.col(history_of(name)).alias(name) for name in ("item_id", *names)]
        log = pl.scan_parquet(folder / "behaviours.parquet").select(columns).collect()
    elif (folder.parent / "encoded" / "item_id.bin").is_file():
        files = {name: folder.parent / "encoded" / f"{name}.bin" for name in ("item_id", *names)}
        log = pl.DataFrame({name: np.fromfile(file, np.int32, ROWS) for name, file in files.items()})
        log = log.with_columns(pl.all().cast(pl.String))
    else:
        return []
    return [name for name, share in varying_in(log, names).items() if share > LIMIT]


def say_changed(changed: dict[str, int], options: BuildOptions) -> None:
    """Log the number of values that were replaced by the item's most frequent one."""
    for name, many in changed.items():
        if many:
            column = shown(name, options)
            logging.info(
                f"{column}: {many} values, missing or rare, were replaced by the item's commonest value",
                extra={"note": True},
            )


def shown(name: str, options: BuildOptions) -> str:
    """Return a column's name in the log."""
    return str(options.category) if name == "cate_id" and options.category else name


def latest_before(
    log: pl.DataFrame, names: list[str], item: pl.Series, time: np.ndarray, unknown: str | int = UNKNOWN
) -> pl.DataFrame:
    """Return the last known value of items' properties strictly before some times.

    Args:
        log: item_id, time (seconds) and the named columns; rows of equal times are in their order.
        names: the properties.
        item: (N,) item_id.
        time: (N,) in seconds.
        unknown: mark of an unknown value.

    Returns:
        (N,) each; `unknown` if no earlier row has a known value.
    """
    wanted = pl.DataFrame({"item_id": item, "time": time.astype(np.int64)}).with_row_index("row").sort("time", "row")
    for name in names:
        known = log.select("item_id", "time", name).filter(pl.col(name) != unknown).sort("time", maintain_order=True)
        wanted = wanted.join_asof(
            known, on="time", by="item_id", strategy="backward", allow_exact_matches=False, check_sortedness=False
        )
    return wanted.sort("row").select(pl.col(names).fill_null(unknown))
