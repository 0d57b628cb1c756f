"""Build a folder of samples: read raw files, make samples, audit and write them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from dien_fuxictr.common.errors import UserError
from dien_fuxictr.common.files import folder_beside, replace_folder, require_room
from dien_fuxictr.common.progress import stage_bar

from .amazon import read_amazon
from .arrays import Arrays
from .behaviour_log import read_log, read_log_in_batches
from .build_options import TABLES, BuildOptions
from .coded_samples import AT_ONCE, CodedSamples
from .columns import column_of
from .complete_rows import names_of
from .leak_audit import audit_coded, say
from .parts import Part, missing, parts_of
from .protocols import SPLITS
from .samples import LEFT_OUT, SPLITTER, save_info
from .sampling import Batches, code_samples, order_of_files, whole

FILES = {"samples.json", "behaviours.parquet"} | {
    f"{name}.{form}" for name in (*SPLITS, LEFT_OUT) for form in ("parquet", "csv")
}
LOG_COLUMNS = (
    "user",
    "item",
    "category",
    "time",
    "label",
    "request",
    "target",
    "side",
    "context",
    "time_unit",
    "time_format",
    "duplicates",
)


def build_samples(options: BuildOptions, out_dir: Path, verbose: bool = True, rebuild: bool = False) -> None:
    """Build the folder `out_dir` of samples from raw files, complete or not at all.

    Args:
        options: options of the build.
        out_dir: must not exist or be empty unless `rebuild`.
        verbose: show progress bars.
        rebuild: replace an existing folder of samples.

    Raises:
        UserError: a raw file is missing or broken, a split is empty or has labels of one class only, or `out_dir`
            contains files.
    """
    out_dir = Path(out_dir)
    check_vacant(out_dir, rebuild)
    require_raw_files(options)
    log = read_raw(options, verbose)
    coded, info = audited_samples(whole(log), options, Arrays(), log.height, verbose)
    samples = coded.as_frames(info, order_of_files(coded, options))
    if options.format != "parquet":
        histories = samples.behaviours.select(samples.history_columns)
        require_splittable(histories, dict.fromkeys(histories.columns, SPLITTER), options, "--format parquet")
    with published(out_dir) as folder:
        if options.format != "csv":
            samples.save(folder)
        if options.format != "parquet":
            samples.save_csv(folder, verbose)
        save_info(samples.info, folder)
    say(f"Wrote {out_dir}", samples.info["audit"])


def audited_samples(
    batches: Batches, options: BuildOptions, arrays: Arrays, part_rows: int, verbose: bool = True
) -> tuple[CodedSamples, dict[str, Any]]:
    """Make samples of a log and audit them; the first four arguments are those of `code_samples`.

    Args:
        batches: reader of the log.
        options: options of the build.
        arrays: where arrays are kept.
        part_rows: rows of the log that are sorted at once.
        verbose: show a progress bar.

    Returns:
        The samples, and their samples.json.

    Raises:
        UserError: as `make_samples`; or a split has labels of one class only.
    """
    with stage_bar(2, verbose) as begin:
        begin("building samples")
        logging.info(f"Building samples: protocol {options.protocol}")
        samples = code_samples(batches, options, arrays, part_rows)
        info = {"options": options.stated(), "counts": samples.counts()}
        say_counts(info["counts"])
        for split in SPLITS:
            counts = info["counts"][split]
            if counts["positives"] in (0, counts["rows"]):
                only = int(counts["positives"] > 0)
                raise UserError(
                    f"the {split} split has {counts['rows']} samples, all with label {only}: AUC needs both"
                )
        begin("auditing")
        logging.info("Auditing")
        info["audit"] = audit_coded(samples, order_of_files(samples, options), set(samples.roles.context))
    return samples, info


def say_counts(counts: dict) -> None:
    """Log the counts of samples.json."""
    things = [f"{count:,} {what}" for what, count in counts.items() if isinstance(count, int)]
    rows = [f"{counts[split]['rows']:,} {split}" for split in SPLITS if split in counts]
    logging.info(str(counts), extra={"screen": f"    {', '.join(things)}; rows: {', '.join(rows)}"})


def read_raw(options: BuildOptions, verbose: bool = True) -> pl.DataFrame:
    """Return the log of a build."""
    if options.source == "amazon":
        return read_amazon(Path(options.reviews), Path(options.meta), options.form, options.skip_bad_lines, verbose)
    return read_log(
        Path(options.input),
        items=Path(options.items) if options.items else None,
        **{name: getattr(options, name) for name in LOG_COLUMNS},
        skip_bad_lines=options.skip_bad_lines,
    )


def batches_of(options: BuildOptions, verbose: bool = True) -> Batches:
    """Return a reader of a build's raw files in batches of rows.

    Amazon's files are read as one batch.
    """
    if options.source == "amazon":
        return whole(read_raw(options, verbose))
    named = {name: getattr(options, name) for name in LOG_COLUMNS if name != "duplicates"}
    items = Path(options.items) if options.items else None
    skip = options.skip_bad_lines
    return read_log_in_batches(Path(options.input), **named, items=items, skip_bad_lines=skip, rows=AT_ONCE)


def require_raw_files(options: BuildOptions) -> None:
    """Raise UserError if a file that a build reads does not exist."""
    for name, parts in raw_files(options).items():
        if not parts:
            hint = f"; to get it: {' '.join(options.raw_from.split())}" if options.raw_from else ""
            raise UserError(f"{missing(Path(options.raw[name]))}{hint}")


def check_vacant(out_dir: Path, rebuild: bool) -> None:
    """Raise UserError if a build cannot write, or would overwrite other files."""
    if out_dir.name in ("", ".."):
        raise UserError(f"{out_dir} cannot be the name of a new folder")
    require_room(out_dir)
    if not out_dir.exists():
        return
    held = sorted(path.name for path in out_dir.iterdir()) if out_dir.is_dir() else [out_dir.name]
    foreign = [name for name in held if name not in FILES or "samples.json" not in held]
    if foreign:
        raise UserError(f"{out_dir} already exists and has {foreign[0]}, which no build wrote; name a new folder")
    if held and not rebuild:
        raise UserError(f"{out_dir} already exists and is not empty; --rebuild replaces it")


def raw_files(options: BuildOptions) -> dict[str, list[Part]]:
    """Return the input files of a build, option -> existing files."""
    paths = {name: Path(path) for name, path in options.raw.items()}
    return {name: parts_of(path) if path.is_file() or name in TABLES else [] for name, path in paths.items()}


def require_splittable(behaviours: pl.DataFrame, splitters: dict[str, str], options: BuildOptions, remedy: str) -> None:
    """Raise UserError for a value that contains the splitter of its CSV column.

    CSV files join histories by splitters.

    Args:
        behaviours: the history columns.
        splitters: history column -> its splitter.
        options: options of the build.
        remedy: alternative to CSV, for the message.
    """
    for name, splitter in splitters.items():
        values = behaviours[name]
        if len(held := values.filter(values.str.contains(splitter, literal=True))):
            ours = column_of(name)
            files = " or ".join(options.raw.values())
            raise UserError(
                f"a value holds {splitter!r}, which joins the histories of a CSV file: "
                f"{names_of(options).get(ours, ours)} = {held[0]!r} in {files}; {remedy} keeps every value"
            )


@contextmanager
def published(out_dir: Path) -> Iterator[Path]:
    """Yield a folder to write samples into, which becomes `out_dir` on success."""
    try:
        with folder_beside(out_dir) as folder:
            yield folder
            replace_folder(folder, out_dir)
    except pl.exceptions.PolarsError as error:  # the form in which polars raises an OSError such as a full disk
        raise OSError(f"cannot write {out_dir}: {error}") from error
    except OSError as error:  # a user does not know the temporary folder
        raise OSError(error.errno, error.strerror, str(out_dir)) from error
