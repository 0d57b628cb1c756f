"""Hyper-parameters: a grid of the zoo's tuner or a search by Optuna, and a leaderboard.

Here are tuner files, what they span, the search and its pictures.
"""
