"""Measure served scores: paths of the scorer, HTTP, and a server under load."""
