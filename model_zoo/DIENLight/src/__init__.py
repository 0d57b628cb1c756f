"""Where the zoo finds `DIENLight`: it imports `src` and takes the class that an entry calls its model."""

from .DIENLight import DIENLight

__all__ = ["DIENLight"]
