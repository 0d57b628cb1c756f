"""Export `GRUAttention`: FuxiCTR imports `src` and looks up the model's class."""

from .GRUAttention import GRUAttention

__all__ = ["GRUAttention"]
