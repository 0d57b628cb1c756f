"""The training loop and what it rests on.

Here are the trainer, gradients, optimizers, updates of large tables, checkpoints, resuming and observers of a run.
Nothing here reads a configuration.
"""
