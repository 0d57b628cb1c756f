"""Parser that every command has, and the name by which a command was called."""

import argparse
import re
import sys
from pathlib import Path

from .package_data import IS_INSTALLED
from .version import __version__

_NAMES = (
    *("run_expid", "run_param_tuner", "run_comparison", "run_evolution", "run_serve"),
    *("build_dataset", "audit_dataset"),
)
_FILE = re.compile(rf"(?:python )?\b({'|'.join(_NAMES)})\.py\b")


def command_parser(program: str, description: str | None, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with `--help` and `--version`.

    Args:
        program: name of the command in a checkout, for example `run_expid.py`.
        description: text for `--help`, with its line breaks.
        epilog: last text of `--help`, with its line breaks.
    """
    parser = _Parser(
        prog=as_called(program),
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s (dien-fuxictr) {__version__}")
    return parser


def as_called(text: str) -> str:
    """Return a text in which commands have the name that this process was called by.

    An installed command is `run_expid`.

    Args:
        text: text that names commands by their files in a checkout, for example `run_expid.py`.
    """
    called = Path(sys.argv[0])
    is_script = called.suffix != ".py" and called.stem in _NAMES
    return _FILE.sub(r"\1", text) if IS_INSTALLED or is_script else text


class _Parser(argparse.ArgumentParser):
    """Parser whose help names commands as they were called, also in subcommands."""

    def format_help(self) -> str:
        return as_called(super().format_help())
