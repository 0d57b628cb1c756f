"""Export `FM`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .FM import FM

__all__ = ["FM"]
