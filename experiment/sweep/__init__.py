"""Runs many experiments: a grid of the zoo's tuner, each run a `run_expid.py` in its own process, and a leaderboard."""
