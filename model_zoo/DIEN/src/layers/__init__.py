"""Layers of DIEN, which need only torch.

The folder can be used alone, with its parent folder on the path.
"""
