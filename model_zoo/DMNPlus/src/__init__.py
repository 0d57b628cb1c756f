"""Where the zoo finds `DMNPlus`: it imports `src` and takes the class that an entry calls its model."""

from .DMNPlus import DMNPlus

__all__ = ["DMNPlus"]
