"""Experiments over seeds side by side.

Here are the plan of a comparison, its statistics, table, pictures and page, and entries for a checkout's models.
"""
