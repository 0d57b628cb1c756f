"""Measurements of this project: studies, suites, searches, results, programs."""
