"""Runs one experiment of the zoo: configuration, training, checkpoints, evaluation, prediction."""
