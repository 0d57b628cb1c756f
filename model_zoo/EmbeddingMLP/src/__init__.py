from .EmbeddingMLP import EmbeddingMLP

__all__ = ["EmbeddingMLP"]
