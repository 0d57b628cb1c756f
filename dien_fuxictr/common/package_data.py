"""Data that comes with the code: experiments and the embedded sample.

A checkout has them at its top level. The installed package has them in its folder `shipped`, which is never written to.
"""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
IS_INSTALLED = (_PACKAGE / "shipped").is_dir()
TOP = _PACKAGE / "shipped" if IS_INSTALLED else _PACKAGE.parent
CONFIG = TOP / "config"
SAMPLE = TOP / "data" / "amazon_sample"


def is_installed(path: Path) -> bool:
    """Return whether a path is in the installed package."""
    return IS_INSTALLED and path.resolve().is_relative_to(_PACKAGE)


def find_config(path: str | Path = "./config/") -> Path:
    """Return the folder of the configuration.

    It is `path`, or the one that comes with the code if there is no `./config/`; a line on stderr reports the latter.
    """
    folder = Path(path)
    if folder != Path("config") or folder.exists():
        return folder
    print(f"./config/ does not exist; using {CONFIG}", file=sys.stderr)
    return CONFIG
