"""Where the zoo finds `DIEN`: it imports `src` and takes the class that an entry calls its model."""

from .DIEN import DIEN

__all__ = ["DIEN"]
