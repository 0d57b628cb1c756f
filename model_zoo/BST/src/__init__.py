"""Where the zoo finds `BST`: it imports `src` and takes the class that an entry calls its model."""

from .BST import BST

__all__ = ["BST"]
