"""Where the zoo finds `DIN`: it imports `src` and takes the class that an entry calls its model."""

from .DIN import DIN

__all__ = ["DIN"]
