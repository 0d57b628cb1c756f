"""Where the zoo finds `DeepFM`: it imports `src` and takes the class that an entry calls its model."""

from .DeepFM import DeepFM

__all__ = ["DeepFM"]
