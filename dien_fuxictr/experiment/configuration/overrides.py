"""`--set KEY=VALUE`: values of a command line that replace configured ones."""

import argparse
from typing import Any

import yaml

from dien_fuxictr.common.suggestions import shown

from .yaml_files import ConfigDumper, parse_yaml

PREFIX = "build."
"""Keys that begin with it are options of the data set's build."""


def add_set_option(parser: argparse.ArgumentParser) -> None:
    """Add `--set`; the parsed options have `settings`, pairs for a dict."""
    parser.add_argument(
        "--set",
        dest="settings",
        nargs="+",
        action="extend",
        default=[],
        type=setting,
        metavar="KEY=VALUE",
        help="values that replace those of the configuration, e.g. --set epochs=3 'dnn_hidden_units=[64, 32]';"
        " build.OPTION, e.g. build.fold=1, builds a separate data set, DATASET_fold_1",
    )


def setting(text: str) -> tuple[str, Any]:
    """Return a key and its value, which is read as YAML.

    Raises:
        argparse.ArgumentTypeError: there is no key or no `=`, or YAML is broken.
    """
    key, separator, value = text.partition("=")
    if not key.removeprefix(PREFIX).isidentifier() or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    try:
        return key, parse_yaml(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{shown(text)}: the value is not readable YAML") from error


def as_arguments(settings: dict[str, Any]) -> list[str]:
    """Return the settings as arguments of a command line; none if empty."""
    texts = [f"{key}={_as_text(value)}" for key, value in settings.items()]
    return ["--set", *texts] if texts else []


def _as_text(value: Any) -> str:
    text = yaml.dump(value, Dumper=ConfigDumper, default_flow_style=True, width=float("inf"), sort_keys=False)
    return text.removesuffix("...\n").rstrip("\n")
