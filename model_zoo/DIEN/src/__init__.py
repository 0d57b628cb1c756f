"""Where the zoo finds `DIEN`: it imports `src` and takes the class that an entry calls its model.

With it come the operators `dien::extract` and `dien::evolve` of torch, which exported models have in them.
"""

from . import operators
from .DIEN import DIEN

__all__ = ["DIEN", "operators"]
