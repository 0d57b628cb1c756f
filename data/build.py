"""Build samples from raw data.

examples:
  The embedded sample (raw Amazon reviews of 2014's form), every prefix of a user's history a training sample:
    python -m data.build amazon --reviews data/amazon_sample/reviews_Sample_5.json.gz \\
        --meta data/amazon_sample/meta_Sample.json.gz --protocol leave_one_out --out data/sample_built

  The paper's protocol: a user's last review and one negative, test users unseen; the second of ten folds:
    python -m data.build amazon --reviews reviews_Books_5.json.gz --meta meta_Books.json.gz \\
        --protocol last --negatives popularity --fold 1 --out data/books_last

  Your own log, in the paper's industrial setting (targets of the last 49 days, 14 days of history each):
    python -m data.build log --input clicks.parquet --user uid --item iid --category cid --time ts \\
        --protocol window --out data/my_clicks

  The same with exposures: labels instead of sampled negatives, and a negative per behaviour:
    python -m data.build log --input shown.csv --user uid --item iid --category cid --time ts --label clicked \\
        --request request_id --side brand,price_band --protocol time --valid-from 2024-03-01 --test-from 2024-03-08 \\
        --format csv --out data/my_exposures

protocols:
  last           one sample a user: his last behaviour; users split 81/9/10 at random (see --folds)
  leave_one_out  a user's last behaviour for the test, the one before for validation, every earlier one for training
  time           behaviours before --valid-from, up to --test_from, and later
  window         behaviours of the last --target-days days, histories of --history-days days
In a log with --request, a request counts as one behaviour.

The folder written holds behaviours.parquet, train/valid/test.parquet and samples.json (see data/samples.py), or
train/valid/test.csv with the histories joined by "^". A build ends with an audit (see data/audit.py).
"""

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from data.amazon import read_amazon
from data.audit import audit, table
from data.behaviour_log import read_log
from data.errors import UserError
from data.options import REQUIRED, check_options, options_of
from data.protocols import SPLITS
from data.sampling import make_samples

logger = logging.getLogger(__name__)

FILES = {"samples.json", "behaviours.parquet", *(f"{split}.{form}" for split in SPLITS for form in ("parquet", "csv"))}
LOG_COLUMNS = ("user", "item", "category", "time", "label", "request", "side", "time_unit")


def build_samples(options: dict, out_dir: Path, verbose: bool = True, rebuild: bool = False) -> None:
    """Read the raw files, make samples, audit them, and write the folder ``out_dir``, whole or not at all.

    Args:
        options: As in a data set's ``build:`` section: source ("amazon" or "log") and the options of
            :mod:`data.options`.
        out_dir: Must not exist or be empty unless ``rebuild``.
        verbose: Show progress bars.
        rebuild: Replace a folder of samples that exists.

    Raises:
        UserError: an option is unknown or wrong, a raw file is missing or broken, a split is empty, or ``out_dir``
            holds files.
    """
    options = check_options(options)
    out_dir = Path(out_dir)
    check_vacant(out_dir, rebuild)
    for path in raw_files(options):
        if not path.is_file():
            hint = f"; to get it: {' '.join(options['raw_from'].split())}" if options["raw_from"] else ""
            raise UserError(f"raw file {path} does not exist{hint}")
    if options["source"] == "amazon":
        log = read_amazon(
            Path(options["reviews"]), Path(options["meta"]), options["form"], options["skip_bad_lines"], verbose
        )
    else:
        log = read_log(
            Path(options["input"]),
            **{name: options[name] for name in LOG_COLUMNS},
            skip_bad_lines=options["skip_bad_lines"],
        )
    logger.info("Making samples: protocol %s", options["protocol"])
    samples = make_samples(log, options)
    logger.info("%s", samples.info["counts"])
    logger.info("Auditing")
    samples.info["audit"] = audit(samples)
    with published(out_dir) as folder:
        if options["format"] != "csv":
            samples.save(folder)
        if options["format"] != "parquet":
            samples.save_csv(folder, verbose)
        samples.save_info(folder)
    logger.info("Wrote %s\n%s", out_dir, table(samples.info["audit"]))
    for warning in samples.info["audit"]["warnings"]:
        logger.warning("%s", warning)


def check_vacant(out_dir: Path, rebuild: bool) -> None:
    """Raise UserError where a build would overwrite files that are not samples, or samples without being told to."""
    if out_dir.name in ("", ".."):
        raise UserError(f"{out_dir} is no name for a new folder")
    if not out_dir.exists():
        return
    held = sorted(path.name for path in out_dir.iterdir()) if out_dir.is_dir() else [out_dir.name]
    foreign = [name for name in held if name not in FILES or "samples.json" not in held]
    if foreign:
        raise UserError(f"{out_dir} exists and holds {foreign[0]}, which no build wrote; give a new folder")
    if held and not rebuild:
        raise UserError(f"{out_dir} exists and is not empty; --rebuild replaces it")


def raw_files(options: dict) -> list[Path]:
    """The input files of a build."""
    names = ("reviews", "meta") if options.get("source") == "amazon" else ("input",)
    return [Path(options[name]) for name in names if options.get(name)]


@contextmanager
def published(out_dir: Path) -> Iterator[Path]:
    """A temporary folder beside ``out_dir`` that takes its name, and its place, when the block ends without error."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    folder, former = (out_dir.with_name(f".{out_dir.name}.{os.getpid()}.{part}") for part in ("new", "old"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
        if out_dir.exists():
            out_dir.rename(former)
        folder.rename(out_dir)
        shutil.rmtree(former, ignore_errors=True)
    except pl.exceptions.PolarsError as error:  # its form of an OSError such as a full disk
        raise OSError(f"cannot write {out_dir}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def parser() -> argparse.ArgumentParser:
    """One subcommand a source, with its options as flags."""
    main_parser = argparse.ArgumentParser(
        prog="python -m data.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sources = main_parser.add_subparsers(dest="source", required=True)
    for source, help_line in (
        ("amazon", "raw Amazon reviews and metadata (2014, 2018 or 2023)"),
        ("log", "a log of behaviours or exposures, CSV or Parquet"),
    ):
        command = sources.add_parser(
            source, help=f"{help_line}; {source} --help lists its options", description=help_line, allow_abbrev=False
        )
        for name, option in options_of(source).items():
            flag = f"--{name.replace('_', '-')}"
            default = "required" if option.default is REQUIRED else f"default {option.default}"
            default = f" ({default})" if option.default not in (None, ()) else ""
            belongs = f"protocol {option.protocol}: " if option.protocol else ""
            if option.kind is bool:
                command.add_argument(flag, action="store_true", default=None, help=belongs + option.help)
            else:
                command.add_argument(
                    flag,
                    type=int if option.kind is int else str,
                    choices=option.choices or None,
                    help=belongs + option.help + default,
                )
        command.add_argument("--out", required=True, type=Path, help="folder to write")
        command.add_argument("--rebuild", action="store_true", help="replace the folder if it exists")
    return main_parser


def main(arguments: list[str] | None = None) -> int:
    """Build from the command line; exit code 2 on wrong input."""
    given = vars(parser().parse_args(arguments))
    out_dir, rebuild = given.pop("out"), given.pop("rebuild")
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    try:
        build_samples(given, out_dir, rebuild=rebuild)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
