"""Make samples of raw data: labelled, split into train, valid and test, each with its history.

examples:
  The embedded sample (raw Amazon reviews of 2014's form), every prefix of a user's history a training sample:
    python build_dataset.py amazon --reviews data/amazon_sample/reviews_Sample_5.json.gz \\
        --meta data/amazon_sample/meta_Sample.json.gz --protocol leave_one_out --out data/sample_built

  The paper's protocol: a user's last review and one negative, test users unseen; the second of ten folds:
    python build_dataset.py amazon --reviews reviews_Books_5.json.gz --meta meta_Books.json.gz \\
        --protocol last --negatives popularity --fold 1 --out data/books_last

  Your own log of clicks, in the paper's industrial setting (the last 49 days, 14 days of history before each click):
    python build_dataset.py log --input clicks.parquet --user uid --item iid --category cid --time ts \\
        --protocol window --out data/my_clicks

  Your own log of exposures, whose labels take the place of sampled negatives; every click gets a negative too:
    python build_dataset.py log --input shown.csv --user uid --item iid --category cid --time ts --label clicked \\
        --request request_id --side brand,price_band --protocol time --valid-from 2024-03-01 --test-from 2024-03-08 \\
        --format csv --out data/my_exposures

The folder written holds samples.json (options, counts, audit) and behaviours.parquet, train/valid/test.parquet or, with
--format csv, train/valid/test.csv with the histories joined by "^"; docs/data.md has their form. A build ends with an
audit (audit_dataset.py --help).
"""

import argparse
import logging
import sys
from pathlib import Path

from dien_fuxictr.common.errors import UserError

from .samples.build import build_samples
from .samples.options import REQUIRED, options_of

PROTOCOLS = """\
protocols, what is predicted in which split:
  last           a user's last behaviour; the users are split 81/9/10 at random (see --folds)
  leave_one_out  test: a user's last behaviour; valid: the one before; train: every earlier one
  time           train: behaviours before --valid-from; valid: from then on, before --test-from; test: from then on
  window         behaviours of the last --target-days days, test: the last --test-days, valid: the --valid-days before;
                 only the --history-days days before a behaviour are its history
In a log with --request, a request counts as one behaviour.
"""


def parser() -> argparse.ArgumentParser:
    """One subcommand a source, with its options as flags."""
    form = argparse.RawDescriptionHelpFormatter
    main_parser = argparse.ArgumentParser(
        prog="build_dataset.py", description=__doc__, epilog=PROTOCOLS, formatter_class=form
    )
    sources = main_parser.add_subparsers(dest="source", required=True)
    for source, help_line in (
        ("amazon", "raw Amazon reviews and metadata (2014, 2018 or 2023)"),
        ("log", "a log of behaviours or exposures, CSV or Parquet"),
    ):
        command = sources.add_parser(
            source,
            help=f"{help_line}; {source} --help lists its options",
            description=f"Make samples of {help_line}.",
            epilog=PROTOCOLS,
            formatter_class=form,
            allow_abbrev=False,
        )
        for name, option in options_of(source).items():
            flag = f"--{name.replace('_', '-')}"
            default = "required" if option.default is REQUIRED else f"default {option.default}"
            default = f" ({default})" if option.default not in (None, ()) else ""
            belongs = f"protocol {option.protocol}: " if option.protocol else ""
            help_text = option.help.replace("%", "%%")
            if option.kind is bool:
                command.add_argument(flag, action="store_true", default=None, help=belongs + help_text)
            else:
                command.add_argument(
                    flag,
                    type=int if option.is_number else str,
                    choices=option.choices or None,
                    required=option.default is REQUIRED and option.protocol is None,
                    help=belongs + help_text + default,
                )
        command.add_argument("--out", required=True, type=Path, help="folder to write (required)")
        command.add_argument("--rebuild", action="store_true", help="replace the folder that an earlier build wrote")
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
