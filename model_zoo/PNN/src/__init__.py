from .PNN import PNN

__all__ = ["PNN"]
