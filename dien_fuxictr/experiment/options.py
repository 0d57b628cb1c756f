"""The options that every command on an experiment has."""

import argparse

from .configuration.overrides import add_set_option
from .configuration.paths import find_config


def add_experiment_options(parser: argparse.ArgumentParser, expid_help: str = "experiment id") -> None:
    """Add `--config`, `--expid`, `--gpu` and `--set`."""
    add_config_option(parser)
    parser.add_argument("--expid", default="DIEN_amazon", metavar="ID", help=f"{expid_help}; default DIEN_amazon")
    parser.add_argument("--gpu", type=int, default=-1, metavar="N", help="index of the GPU, -1 for the CPU (default)")
    add_set_option(parser)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config",
        type=find_config,
        default="./config/",
        metavar="DIR",
        help="folder of model_config and dataset_config; default ./config/, or else the one that comes with the code",
    )
