"""Export `DREAM`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .DREAM import DREAM

__all__ = ["DREAM"]
