"""The version of this project; the package's metadata and `--version` take it from here."""

__version__ = "0.1.0"
