"""Sweeps: a grid of the zoo's tuner or a search by Optuna, and a leaderboard."""
