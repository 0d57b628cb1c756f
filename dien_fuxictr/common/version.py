"""Version of this project, used by the package's metadata and `--version`."""

__version__ = "0.1.0"
