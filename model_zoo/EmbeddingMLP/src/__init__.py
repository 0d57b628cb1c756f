"""Where the zoo finds `EmbeddingMLP`: it imports `src` and takes the class that an entry calls its model."""

from .EmbeddingMLP import EmbeddingMLP

__all__ = ["EmbeddingMLP"]
