"""Export `DIN`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .DIN import DIN

__all__ = ["DIN"]
