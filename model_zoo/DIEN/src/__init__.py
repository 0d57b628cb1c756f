"""Export `DIEN`: FuxiCTR imports `src` and looks up the class of an experiment.

The import also registers the torch operators `dien::extract` and `dien::evolve`, which exported models contain.
"""

from . import operators
from .DIEN import DIEN

__all__ = ["DIEN", "operators"]
