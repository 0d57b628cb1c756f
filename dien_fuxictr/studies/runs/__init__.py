"""Runs of comparisons and sweeps: their files, their progress, and the options of both commands.

Nothing here knows why a run is made.
"""
