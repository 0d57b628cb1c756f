"""Export `BST`: FuxiCTR imports `src` and looks up the class of an experiment."""

from .BST import BST

__all__ = ["BST"]
