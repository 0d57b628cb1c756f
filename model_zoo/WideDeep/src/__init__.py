"""Export `WideDeep`: FuxiCTR imports `src` and looks up an experiment's class."""

from .WideDeep import WideDeep

__all__ = ["WideDeep"]
