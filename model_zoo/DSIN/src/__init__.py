"""Where the zoo finds `DSIN`: it imports `src` and takes the class that an entry calls its model."""

from .DSIN import DSIN

__all__ = ["DSIN"]
