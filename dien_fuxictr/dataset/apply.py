"""Complete new rows of a log with the columns of a data set, for `--predict`.

The columns include the histories.
"""

import gzip
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl
import pyarrow.parquet as pq

from dien_fuxictr.common.csv_lines import scan_csv
from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import require_writable, write_atomic
from dien_fuxictr.common.progress import progress_bar

from .encoding.reading import form_of, source_of
from .encoding.schema import active_columns
from .loading.entry import DatasetEntry
from .loading.fingerprint import Fingerprint
from .samples.amazon import read_categories
from .samples.build_options import BuildOptions
from .samples.build_samples import raw_files, read_raw, require_splittable
from .samples.complete_rows import check_rows, complete, item_properties, names_of
from .samples.ranges import coverage
from .samples.raw_table import read_items
from .samples.samples import CSV_ROWS, SPLITTER, as_lists, info_in

LOG_OPTION = {"amazon": "reviews", "log": "input"}
"""Source of a build -> its option that names the log."""
RANGE = ["history_start", "history_length"]


def with_log(params: dict, log: Path | None) -> dict:
    """Return a data set's entry whose build reads another log.

    Args:
        params: the entry.
        log: None: the log that the data set was built from.

    Raises:
        UserError: the log does not exist, the entry has no build section, or its source is unknown.
    """
    build = params.get("build")
    if not isinstance(build, dict):
        raise UserError(
            f"build is missing in data set {params['dataset_id']}; the section says how rows are built from a log"
        )
    option = LOG_OPTION[BuildOptions.of(build).source]
    if log is None:
        return params
    build = {**build, option: str(log)}
    if not raw_files(BuildOptions.of(build))[option]:
        raise UserError(f"--log {log} does not exist")
    return {**params, "build": build}


def apply_build(entry: DatasetEntry, rows: Path, out: Path, verbose: bool = True) -> None:
    """Write rows with the columns that the data set's build derives from the log.

    See `complete`. The output has, in the rows' order, the columns of samples, with histories as lists or in CSV as
    text, and those columns of `rows` whose names are not taken.

    Args:
        entry: entry of the data set, with the log of `with_log`.
        rows: .csv, .csv.gz or .parquet; `names_of` lists its columns.
        out: file to write, with one of these suffixes; must not exist.
        verbose: show progress bars.

    Raises:
        UserError: `out` exists, a file is missing or broken, an option or a row is wrong, the data set was built with
            other options, or a value of a history contains the splitter of its column and `out` is CSV.
    """
    if out.exists():
        raise UserError(f"--out {out} already exists; name a new file")
    is_parquet = form_of(out) == "parquet"
    require_writable(out)
    options = entry.options
    assert options is not None, "see with_log"
    _require_same_options(entry)
    raw = _read(rows)
    candidates = check_rows(raw, rows, options)
    log = read_raw(options, verbose)
    _say_if_smaller(log, entry)
    items = item_properties(log, options)
    new = set(candidates["item_id"]) - set(items["item_id"])
    if new and (further := _properties_beside_log(options, new, verbose)) is not None:
        items = pl.concat([items, further], how="diagonal")
    samples, behaviours = complete(candidates, log, items, options)
    splitters = {source_of(column): column.get("splitter", SPLITTER) for column in active_columns(entry.feature_cols)}
    joined = {name: splitters.get(name, SPLITTER) for name in behaviours.columns if name.endswith("_history")}
    histories = behaviours.select(*joined)
    if not is_parquet:
        start, length = (samples[name].to_numpy() for name in RANGE)
        used = coverage(start, length, behaviours.height) > 0
        require_splittable(histories.filter(used), joined, options, "--out FILE.parquet")
    taken = [name for name in raw.columns if name in (*samples.columns, *histories.columns)]
    if clashing := [name for name in taken if names_of(options).get(name) != name]:
        logging.warning(f"{rows}: left out {', '.join(clashing)}: the build writes columns with these names")
    own = raw.drop(taken)

    def parts() -> Iterator[pl.DataFrame]:
        with progress_bar(verbose=verbose, total=raw.height, unit="rows", desc=out.name) as progress:
            for part, more in zip(samples.iter_slices(CSV_ROWS), own.iter_slices(CSV_ROWS), strict=True):
                lists = as_lists(histories, *(part[name].to_numpy() for name in RANGE))
                text = lists.select(pl.col(name).list.join(splitter) for name, splitter in joined.items())
                yield part.drop(RANGE).hstack(lists if is_parquet else text).hstack(more)
                progress.update(part.height)

    _write(parts(), out, entry.sep)
    users = samples.group_by("user_id").agg(pl.col("history_length").max())
    logging.info(
        f"Wrote {out}: {samples.height} rows; {users.height} users, {(users['history_length'] == 0).sum()} of them "
        f"without history; {candidates['item_id'].n_unique()} items, {len(new)} of them not in the log",
        extra={"note": True},
    )


def _say_if_smaller(log: pl.DataFrame, entry: DatasetEntry) -> None:
    """Log a note if the log has fewer users or behaviours than the one that the data set was built from.

    It then lacks earlier behaviours, as a log of the newest rows does.
    """
    then, options = info_in(entry.samples_dir).get("counts"), entry.options
    assert options is not None
    now = {"users": log["user_id"].n_unique(), "behaviours": int(log["label"].sum()) if options.label else log.height}
    if then and any(many < then[what] for what, many in now.items()):
        counts = " and ".join(f"{many:,} {what} (the data set: {then[what]:,})" for what, many in now.items())
        logging.info(
            f"{options.raw[LOG_OPTION[options.source]]} has {counts}: histories have behaviours of this log only; if "
            "it lacks earlier rows, give a log with the earlier and the new ones",
            extra={"note": True},
        )


def _properties_beside_log(options: BuildOptions, new: set[str], verbose: bool) -> pl.DataFrame | None:
    """Return properties of items that the log lacks, from the file of items.

    The columns are item_id, the category and the side columns. None if there is no such file.
    """
    if options.source == "amazon":
        return read_categories(Path(options.meta), new, options.form, options.skip_bad_lines, verbose)
    if not options.items:
        return None
    others = ("user_id", "item_id", "time", *options.context)
    properties = {ours: name for ours, name in names_of(options).items() if ours not in others}
    items = read_items(Path(options.items), options.item, properties, options.skip_bad_lines)
    return items.filter(pl.col("item_id").is_in(new))


def _require_same_options(entry: DatasetEntry) -> None:
    """Raise UserError if the data set was built with other options.

    Its models know histories of those options.
    """
    known = Fingerprint.load(entry.data_dir)
    if known:
        then, now = (
            Fingerprint({key: value for key, value in keys.items() if key.startswith("build.")}, {}, [])
            for keys in (known.entry, entry.keys())
        )
        if changes := now.changes_since(then):
            raise UserError(
                f"{entry.data_dir} was built with other options ({'; '.join(changes)}); give the entry those again, or "
                "build the data set again with --rebuild"
            )


def _read(path: Path) -> pl.DataFrame:
    """Return the rows of a file; CSV as text."""
    if not path.is_file():
        raise UserError(f"--rows {path} does not exist")
    try:
        is_parquet = form_of(path) == "parquet"
        rows = (pl.scan_parquet(path) if is_parquet else scan_csv(path)).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if rows.is_empty():
        raise UserError(f"{path} has no rows")
    return rows


def _write(parts: Iterator[pl.DataFrame], path: Path, separator: str) -> None:
    """Write a file part by part: histories of all rows need not fit in memory."""

    def as_parquet(file: IO[bytes]) -> None:
        first = next(parts).to_arrow()
        with pq.ParquetWriter(file, first.schema) as writer:
            writer.write_table(first)
            for part in parts:
                writer.write_table(part.to_arrow())

    def as_csv(file: IO[bytes] | gzip.GzipFile) -> None:
        for number, part in enumerate(parts):
            file.write(part.write_csv(include_header=number == 0, separator=separator).encode())

    def as_gzip(file: IO[bytes]) -> None:
        with gzip.GzipFile(fileobj=file, mode="wb") as stream:
            as_csv(stream)

    is_gzip = path.name.lower().endswith(".gz")
    try:
        write_atomic(path, as_parquet if form_of(path) == "parquet" else as_gzip if is_gzip else as_csv)
    except pl.exceptions.PolarsError as error:
        raise UserError(f"cannot write {path}: {str(error).splitlines()[0]}") from error
