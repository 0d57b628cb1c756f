"""Export `DMNPlus`: FuxiCTR imports `src` and looks up an experiment's class."""

from .DMNPlus import DMNPlus

__all__ = ["DMNPlus"]
