"""Export `DSIN`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .DSIN import DSIN

__all__ = ["DSIN"]
