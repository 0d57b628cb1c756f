"""Where the zoo finds `WideDeep`: it imports `src` and takes the class that an entry calls its model."""

from .WideDeep import WideDeep

__all__ = ["WideDeep"]
