"""Runs as processes: a pool of them, their progress and what they have reached.

What sweeps and comparisons share. Nothing here knows why a run is made.
"""
