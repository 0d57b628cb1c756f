"""Comparisons of experiments over seeds, and suites of them.

The plan of a comparison, its statistics, table, pictures and page, and entries for a checkout's models live here.
"""
