"""Where the zoo finds `GRUAttention`: it imports `src` and takes the class that an entry calls its model."""

from .GRUAttention import GRUAttention

__all__ = ["GRUAttention"]
