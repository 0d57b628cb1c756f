from .DMNPlus import DMNPlus

__all__ = ["DMNPlus"]
