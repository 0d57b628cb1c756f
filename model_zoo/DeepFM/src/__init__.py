"""Export `DeepFM`: FuxiCTR imports `src` and looks up an experiment's class."""

from .DeepFM import DeepFM

__all__ = ["DeepFM"]
