r"""Build samples from raw data, or rows to predict.

Samples are labelled, split into train, valid and test, and have their histories.

Examples:
  The embedded sample (raw Amazon reviews in the form of 2014); every prefix of a user's history is a training sample:
    python build_dataset.py amazon --reviews data/amazon_sample/reviews_Sample_5.json.gz \
        --meta data/amazon_sample/meta_Sample.json.gz --protocol leave_one_out --out data/sample_built

  The paper's protocol, the last review of each user and one negative, unseen test users; the second of ten folds:
    python build_dataset.py amazon --reviews reviews_Books_5.json.gz --meta meta_Books.json.gz \
        --protocol last --negatives popularity --fold 1 --out data/books_last

  Your own log of clicks, in the paper's industrial setting (the last 49 days, 14 days of history before each click):
    python build_dataset.py log --input clicks.parquet --user uid --item iid --category cid --time ts \
        --protocol window --out data/my_clicks

  The log with the item's brand, its price, which changes, and the user's device:
    python build_dataset.py log --input clicks.parquet --user uid --item iid --category cid --time ts \
        --side brand,price --side-varies price --context device --out data/my_contexts

  Your own log of exposures, whose labels replace sampled negatives; every click of a history gets a negative, too:
    python build_dataset.py log --input shown.csv --user uid --item iid --category cid --time ts --label clicked \
        --request request_id --side brand,price_band --protocol time --valid-from 2024-03-01 --test-from 2024-03-08 \
        --format csv --out data/my_exposures

  A log in parts, with one folder per day, whose name is a column:
    python build_dataset.py log --input 'log/day=2024-*/*.parquet' --user uid --item iid --category cid --time day \
        --session-gap 604800 --out data/my_days

  RecBole's atomic files (tabs, a header of name:type), here MovieLens-100k; the last ten ratings per user are the test:
    python build_dataset.py log --input ml-100k.inter --items ml-100k.item --user user_id --item item_id \
        --category class --time timestamp --test-last 10 --session-gap 3600 --out data/movielens_samples

  New rows of a log with their histories, for run_expid.py --predict; each row is a user, an item and a time:
    python build_dataset.py apply --log clicks.parquet --rows candidates.parquet --dataset my_clicks --out rows.parquet

A build writes a folder with samples.json (options, counts, audit) and behaviours.parquet, train/valid/test.parquet
or, with --format csv, train/valid/test.csv with the histories joined by "^"; docs/guides/data.md describes them. It
ends with an audit (audit_dataset.py --help) and prints the counts, the files written and the next commands.
"""

import argparse
import json
import logging
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dien_fuxictr.common.command_parser import as_called, command_parser
from dien_fuxictr.common.errors import UserError, run_command
from dien_fuxictr.common.outputs import require_output
from dien_fuxictr.common.progress import say
from dien_fuxictr.common.signals import starting
from dien_fuxictr.common.summary_text import files_text
from dien_fuxictr.dataset.samples.build_options import REQUIRED, BuildOptions, options_of

from .logs import RunLog
from .options import add_config_option

PROTOCOLS = """\
protocols (the behaviours that each split predicts):
  last           a user's last behaviour; the users are split 81/9/10 at random (see --folds)
  leave_one_out  test: a user's last behaviour; valid: the one before; train: every earlier one (see --test-last)
  time           train: behaviours before --valid-from; valid: from then on, before --test-from; test: from then on
  window         behaviours of the last --target-days days, test: the last --test-days, valid: the --valid-days before;
                 only the --history-days days before a behaviour are its history
In a log with --request, a request counts as one behaviour.
"""


APPLY = """\
The rows are a .csv, .csv.gz (with a header line) or .parquet file with the columns user_id, item_id and time. For a
data set of source log, the columns have the names in its build: user, item, time and context. The history of a row is
what its user did strictly before the time of the row, cut as in the build. Histories have the behaviours of --log
only: a log of the newest rows alone cuts them. Category and side columns come from the row. If the row lacks them, they
have the item's commonest value in the log, or, for columns that vary, the latest value before the time of the row. If
the log lacks the item, they come from Amazon's metadata or from the build's file of items; otherwise they are
"unknown". All other columns are kept.
"""


def parser() -> argparse.ArgumentParser:
    """One subcommand a source, with its options as flags, and one for new rows."""
    form = argparse.RawDescriptionHelpFormatter
    main_parser = command_parser("build_dataset.py", __doc__, PROTOCOLS)
    sources = main_parser.add_subparsers(dest="source", required=True)
    for source, help_line in (
        ("amazon", "raw Amazon reviews and metadata (2014, 2018 or 2023)"),
        ("log", "a log of behaviours or exposures, CSV, Parquet or RecBole's .inter, in one file or several"),
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
            default = "required" if option.default == REQUIRED else f"default {option.default}"
            default = f" ({default})" if option.default not in (None, ()) else ""
            protocol = option.meaning.protocol
            belongs = f"protocol {protocol}: " if protocol else ""
            help_text = option.meaning.text.replace("%", "%%")
            if option.is_flag:
                command.add_argument(flag, action="store_true", default=None, help=belongs + help_text)
            else:
                command.add_argument(
                    flag,
                    type=int if option.is_number else str,
                    choices=option.choices or None,
                    required=option.default == REQUIRED and protocol is None,
                    help=belongs + help_text + default,
                )
        made = command.add_mutually_exclusive_group(required=True)
        made.add_argument("--out", type=Path, metavar="DIR", help="write only the samples, into this folder")
        made.add_argument(
            "--entry",
            metavar="ID",
            help="build the data set ID and write its configuration: columns, and experiments with DIEN, DIN and sum "
            "pooling whose settings suit these samples; prints the next commands. Files of ID that exist are an error; "
            "--rebuild keeps them",
        )
        command.add_argument(
            "--config",
            type=Path,
            default=Path("config"),
            metavar="DIR",
            help="folder that --entry writes to, as dataset_config/ID.yaml and model_config/ID.yaml; default ./config/",
        )
        command.add_argument(
            "--rebuild",
            action="store_true",
            help="replace the samples of an earlier build; never the files of --entry, which stay as they are",
        )
        _add_verbose(command)
    _add_apply(sources)
    return main_parser


def _add_apply(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "Make rows for run_expid.py --predict of users, items and times, with histories from a log."
    command = commands.add_parser(
        "apply",
        help="new rows of a log, for run_expid.py --predict; apply --help says more",
        description=text,
        epilog=APPLY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    file = {"type": Path, "metavar": "FILE"}
    log = (
        "log or Amazon reviews with the earlier behaviours of the users, in a form that the data set's build reads; "
        "default: the build's own"
    )
    command.add_argument("--log", **file, help=log)
    file["required"] = True
    command.add_argument("--rows", **file, help="the rows, each a user, an item and a time")
    command.add_argument("--dataset", required=True, metavar="ID", help="data set whose entry has the build section")
    command.add_argument("--out", **file, help="new file to write, .csv, .csv.gz or .parquet")
    add_config_option(command)
    _add_verbose(command)


def _add_verbose(command: argparse.ArgumentParser) -> None:
    command.add_argument("--verbose", action="store_true", help="show the lines of the log on stderr")


def _apply(config: Path, dataset: str, log: Path | None, rows: Path, out: Path, notes: Iterable[str]) -> None:
    with starting():
        from dien_fuxictr.dataset.apply import apply_build, with_log
        from dien_fuxictr.dataset.loading.entry import DatasetEntry

        from .configuration.config import load_dataset
        from .configuration.paths import resolve_paths
        from .contract import check_entry
    entry = load_dataset(config, dataset)
    for warning in entry.warnings:
        logging.warning(warning)
    check_entry(entry.params, entry.where)
    params = with_log(entry.params, log)
    resolve_paths(params, config)
    inputs = {"--log": log, "--rows": rows} if log else {"--rows": rows}
    require_output("--out", out, inputs, {"--config": config})
    say(f"{out}: rows of {rows} for data set {dataset}")
    apply_build(DatasetEntry.of(params), rows, out)
    say("")
    print(*notes, sep="\n")
    command = f"run_expid.py{_config_option(config)} --expid ID --predict {shlex.quote(str(out))}"
    _print_next("Next, with ID the name of an experiment:", command)


def _config_option(config: Path) -> str:
    return "" if config == Path("config") else f" --config {shlex.quote(str(config))}"


def _add_entry(config: Path, dataset: str, given: dict[str, Any], rebuild: bool, notes: Iterable[str]) -> None:
    """Build a data set and write its configuration, or nothing of both; `rebuild` keeps files that exist."""
    with starting():
        from dien_fuxictr.dataset.loading.entry import DatasetEntry
        from dien_fuxictr.dataset.loading.prepare import prepare_dataset

        from .configuration import new_entry
        from .configuration.config import Config, load_dataset
        from .configuration.paths import resolve_paths
        from .configuration.yaml_files import parse_yaml
        from .contract import check_entry
    files = new_entry.files_of(config, dataset, may_exist=rebuild)
    build = BuildOptions.of(given)
    _say_head(dataset, build)
    text = new_entry.dataset_text(dataset, build, given)
    if files[0].exists():
        entry = load_dataset(config, dataset)
        new_entry.require_same_build(files[0], entry.params, build)
    else:
        entry = Config({**parse_yaml(text)[dataset], "dataset_id": dataset}, {}, files[0])
    check_entry(params := entry.params, entry.where)
    resolve_paths(params, config)
    prepare_dataset(DatasetEntry.of(params), rebuild=rebuild)
    built = Path(params["data_root"], dataset)
    info = json.loads((built / "samples" / "samples.json").read_text())
    new_entry.write_entry(files, text, new_entry.models_text(dataset, build, info["counts"]))
    for warning in new_entry.warnings_of(build, Path(params["train_data"])):
        logging.warning(warning)
    folder, first = _config_option(config), shlex.quote(f"DIEN_GRU_{dataset}")
    _print_built(
        info,
        notes,
        {"data set": built, "columns": files[0], "experiments": files[1]},
        f"audit_dataset.py {shlex.quote(str(built))}",
        f"run_expid.py{folder} --expid {first}",
        f"run_comparison.py{folder} --dataset {shlex.quote(dataset)} --seeds 3",
        f"run_serve.py{folder} --expid {first}",
    )


def _say_head(name: str | Path, build: BuildOptions) -> None:
    with starting():
        from dien_fuxictr.dataset.samples.build_summary import build_settings_text
    say(f"{name}: samples of {' and '.join(build.raw.values())}")
    say(build_settings_text(build))


def _print_built(info: dict[str, Any], notes: Iterable[str], files: dict[str, Path], *commands: str) -> None:
    from dien_fuxictr.dataset.samples.build_summary import samples_table

    say("")
    print(samples_table(info), *notes, "", files_text(files), sep="\n")
    _print_next("Next:", *commands)


def _print_next(title: str, *commands: str) -> None:
    print("", title, *(as_called(f"  python {command}") for command in commands), sep="\n")


def _write_samples(given: dict[str, Any], out_dir: Path, rebuild: bool, notes: Iterable[str]) -> None:
    with starting():
        from dien_fuxictr.dataset.samples.build_samples import build_samples
    build = BuildOptions.of(given)
    inputs = {f"--{name}": Path(path) for name, path in build.raw.items()}
    require_output("--out", out_dir, inputs, holds_own=True)
    _say_head(out_dir, build)
    build_samples(build, out_dir, rebuild=rebuild)
    info = json.loads((out_dir / "samples.json").read_text())
    _print_built(info, notes, {"samples": out_dir}, f"audit_dataset.py {shlex.quote(str(out_dir))}")


def _run(options: dict[str, Any]) -> int:
    log = RunLog()
    log.start(options.pop("verbose"))
    try:
        if options["source"] == "apply":
            _apply(**{name: value for name, value in options.items() if name != "source"}, notes=log.notes)
            return 0
        out_dir, entry, config, rebuild = map(options.pop, ("out", "entry", "config", "rebuild"))
        given = {name: value for name, value in options.items() if value is not None}
        if entry is None:
            _write_samples(given, out_dir, rebuild, log.notes)
        else:
            _add_entry(config, entry, given, rebuild, log.notes)
    except OSError as error:
        raise UserError(str(error)) from error
    finally:
        log.close()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run a command line; exit code 2 on wrong input, see `run_command`."""
    return run_command(lambda: _run(vars(parser().parse_args(arguments))), "interrupted; nothing was written")
