"""Runs of comparisons and sweeps: files, progress, and options of both commands.

Nothing here knows the purpose of a run.
"""
