"""Complete new rows of user, item and time with history and properties.

The result equals what a build would make of these rows.
"""

from pathlib import Path

import numpy as np
import polars as pl

from dien_fuxictr.common.errors import UserError

from .amazon import UNKNOWN
from .arrays import Arrays
from .build_options import BuildOptions
from .columns import LIMIT, at_items, commonest, latest_before, roles_of, varying_in
from .sampling import SPAN, code_table, preceding, shuffled, stream, whole
from .times import read_times

_OPTIONS = {"user_id": "user", "item_id": "item", "time": "time", "cate_id": "category"}


def names_of(options: BuildOptions) -> dict[str, str]:
    """Return column of the samples -> column of the rows.

    For a log these are the log's own names, for Amazon reviews the samples' names.
    """
    is_log = options.source == "log"
    names = {name: getattr(options, option) if is_log else name for name, option in _OPTIONS.items()}
    return {name: theirs for name, theirs in names.items() if theirs} | {
        name: name for name in (*options.side, *options.context)
    }


def check_rows(raw: pl.DataFrame, path: Path, options: BuildOptions) -> pl.DataFrame:
    """Return the rows in the builders' form.

    Args:
        raw: rows with the columns of `names_of`; the category and the side columns may be missing.
        path: file, for messages.
        options: options of the build.

    Returns:
        In the order of `raw`: user_id, item_id (String), time (Int64, seconds), the context and those of the category
        and side columns that exist (String, null if empty).

    Raises:
        UserError: a column is missing, or a row has no user, no item or no readable time.
    """
    names = names_of(options)
    needed = [names[name] for name in ("user_id", "item_id", "time", *options.context)]
    missing = [name for name in needed if name not in raw.columns]
    if missing:
        raise UserError(
            f"{path}: {', '.join(missing)} missing; rows need the columns {', '.join(needed)} and have "
            f"{', '.join(raw.columns)}"
        )
    texts = [name for name, theirs in names.items() if name != "time" and theirs in raw.columns]
    try:
        times = read_times(raw[names["time"]], options.time_unit, options.time_format)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: column {names['time']!r} holds no times: {str(error).splitlines()[0]}") from error
    rows = raw.select(pl.col(names[name]).cast(pl.String).alias(name) for name in texts).select(
        *[pl.col(name).replace("", None) for name in texts], times.seconds.alias("time")
    )
    for name in ("user_id", "item_id", "time"):
        if rows[name].null_count():
            row = int(rows[name].is_null().arg_max() or 0)
            raise UserError(f"{path}: row {row + 1} has no usable {names[name]} ({raw[names[name]][row]!r})")
    if options.time_unit is None and (outside := times.outside()).any():
        row = int(outside.arg_max() or 0)
        raise UserError(f"{path}: row {row + 1}: {names['time']} {times.of_year(row)}")
    return rows


def item_properties(log: pl.DataFrame, options: BuildOptions) -> pl.DataFrame:
    """Return item_id and the most frequent cate_id and side values of each item."""
    return commonest(log, roles_of(log.columns, options).properties)


def complete(
    rows: pl.DataFrame, log: pl.DataFrame, items: pl.DataFrame, options: BuildOptions
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add histories, strictly before the rows' times, and properties of items.

    Args:
        rows: result of `check_rows`.
        log: the log as it was read.
        items: result of `item_properties`, and items that the log lacks.
        options: options of the build.

    Returns:
        The rows as samples: user_id, item_id, cate_id, the side columns, the context, history_start and history_length,
        and the behaviours that they refer to. A property that varies has the item's last value before the row's time,
        as in training; in a log with labels, a property varies if it differs from the most frequent value in more than
        1 % of the rows. An unknown value is "unknown".
    """
    roles = roles_of(log.columns, options)
    varying = roles.varying
    if "label" in log.columns:
        varying = [name for name, share in varying_in(log, roles.properties).items() if share > LIMIT]
    table, _ = code_table(whole(log), options, Arrays(), log.height)
    log, behaviours = table.log_table(varying), table.behaviour_table()
    users = behaviours.select("user_id").unique(maintain_order=True).with_row_index("number")
    number = rows.join(users, on="user_id", how="left", maintain_order="left")["number"].cast(pl.Int64)
    start, length = preceding(
        behaviours,
        behaviours["user_id"].rle_id().cast(pl.Int64).to_numpy(),
        number.fill_null(users.height).to_numpy(),
        rows["time"].to_numpy(),
        options,
    )
    known = at_items(rows["item_id"], items).with_columns(
        *latest_before(log, varying, rows["item_id"], rows["time"].to_numpy())
    )
    samples = rows.select(
        "user_id",
        "item_id",
        *(
            pl.coalesce(name if name in rows.columns else None, known[name]).fill_null(UNKNOWN).alias(name)
            for name in known.columns
        ),
        *(pl.col(name).fill_null(UNKNOWN) for name in roles.context),
        history_start=pl.Series(start),
        history_length=pl.Series(length),
    )
    if options.history_order == "shuffled":
        places = samples.select(SPAN).unique().sort(SPAN)
        spans = [places[name].to_numpy().astype(np.int64) for name in SPAN]
        behaviour, first = shuffled(spans[0], spans[1], stream(options, "histories"))
        behaviours = behaviours[behaviour].with_columns(behaviour=behaviour)
        moved = samples.join(places.with_columns(first=first), on=SPAN, how="left", maintain_order="left")
        samples = moved.with_columns(history_start="first").drop("first")
    return samples, behaviours
