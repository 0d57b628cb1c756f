from .DREAM import DREAM

__all__ = ["DREAM"]
