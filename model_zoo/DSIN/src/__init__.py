from .DSIN import DSIN

__all__ = ["DSIN"]
