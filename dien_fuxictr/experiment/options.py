"""Options that every command on an experiment has."""

import argparse
import os
import shlex

from dien_fuxictr.common.package_data import find_config

from .configuration.overrides import add_set_option


def add_experiment_options(parser: argparse.ArgumentParser, expid_help: str = "experiment id") -> None:
    """Add `--config`, `--expid`, `--gpu` and those of `add_settings_options`."""
    add_config_option(parser)
    parser.add_argument("--expid", default="DIEN_amazon", metavar="ID", help=f"{expid_help}; default DIEN_amazon")
    parser.add_argument(
        "--gpu",
        type=int,
        default=-1,
        metavar="N",
        help="index of the GPU; -1: the CPU (default)",
    )
    add_settings_options(parser)


def add_settings_options(parser: argparse.ArgumentParser) -> None:
    """Add `--set`, `--data-root` and `--model-root`.

    A relative folder of the two options is in the working directory; a folder of the configuration is also searched for
    next to it.
    """
    add_set_option(parser)
    for key, what in (("data_root", "built data sets"), ("model_root", "checkpoints, states and logs")):
        parser.add_argument(
            f"--{key.replace('_', '-')}",
            dest="settings",
            action="append",
            type=lambda folder, key=key: (key, os.path.abspath(folder)),
            metavar="DIR",
            help=f"folder of {what}, instead of the configuration's {key}",
        )


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        type=find_config,
        default="./config/",
        metavar="DIR",
        help="folder of model_config and dataset_config; default ./config/ if it exists, else the one that "
        "comes with the code",
    )


def positive_count(text: str) -> int:
    """Return a number of the command line, the `type` of an option that counts.

    Raises:
        argparse.ArgumentTypeError: it is not a whole number, or below 1.
    """
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more")
    return int(text)


def add_cluster_option(parser: argparse.ArgumentParser, what: str, package: str = "ray") -> None:
    """Add `--cluster`; `package` is what it needs."""
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help=f"{what} on a Ray cluster (pip install {shlex.quote(package)}), HOST:PORT of its first machine; auto: the "
        "cluster that RAY_ADDRESS or `ray start` on this machine names, or else a cluster of this machine that ends "
        "with the command",
    )
