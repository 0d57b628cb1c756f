"""The training loop and what it rests on: gradients, optimizers, checkpoints, resuming, TensorBoard."""
