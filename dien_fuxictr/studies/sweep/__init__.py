"""Sweeps over hyper-parameters: a grid or TPE, and a leaderboard.

Tuner files, what they span, the TPE sweep and its pictures live here.
"""
