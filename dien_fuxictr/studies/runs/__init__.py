"""Runs as processes: a pool of them, their progress and what they have reached."""
