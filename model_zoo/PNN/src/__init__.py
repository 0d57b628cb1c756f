"""Export `PNN`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .PNN import PNN

__all__ = ["PNN"]
