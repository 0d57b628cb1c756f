from .BST import BST

__all__ = ["BST"]
