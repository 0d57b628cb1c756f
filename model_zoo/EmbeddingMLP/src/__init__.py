"""Export `EmbeddingMLP`: FuxiCTR imports `src` and looks up the model's class."""

from .EmbeddingMLP import EmbeddingMLP

__all__ = ["EmbeddingMLP"]
