"""Share code that all other packages use.

It covers errors and exit codes, files, CSV, names, Markdown and progress, and knows nothing of data sets, models or
runs.
"""
