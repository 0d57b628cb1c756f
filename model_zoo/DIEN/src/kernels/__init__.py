"""The code that runs DIEN's operations: the paper's equations, PyTorch, C++ for CPUs, Triton for GPUs; torch alone."""
