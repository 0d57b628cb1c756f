"""Where the zoo finds `PNN`: it imports `src` and takes the class that an entry calls its model."""

from .PNN import PNN

__all__ = ["PNN"]
