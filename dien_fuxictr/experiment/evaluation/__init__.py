"""Predictions of a trained model, and their metrics.

Here are metrics and what scores a loader or a user's own rows. Nothing here trains.
"""
