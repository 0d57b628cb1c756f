"""Where the zoo finds `DREAM`: it imports `src` and takes the class that an entry calls its model."""

from .DREAM import DREAM

__all__ = ["DREAM"]
