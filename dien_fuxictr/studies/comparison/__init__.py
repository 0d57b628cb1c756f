"""Experiments over seeds side by side: table, intervals, pictures, a page."""
