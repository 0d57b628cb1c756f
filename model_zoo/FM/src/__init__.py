"""Where the zoo finds `FM`: it imports `src` and takes the class that an entry calls its model."""

from .FM import FM

__all__ = ["FM"]
