"""Export `DIENLight`: FuxiCTR imports `src` and looks up an experiment's class."""

from .DIENLight import DIENLight

__all__ = ["DIENLight"]
