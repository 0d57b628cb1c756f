from .WideDeep import WideDeep

__all__ = ["WideDeep"]
