"""Implementations of DIEN's operations, which import only torch.

They are the paper's equations, PyTorch, C++ for CPUs and Triton for GPUs.
"""
