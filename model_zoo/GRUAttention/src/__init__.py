from .GRUAttention import GRUAttention

__all__ = ["GRUAttention"]
