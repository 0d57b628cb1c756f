"""What every floor uses and no floor owns: errors and exit codes, files, CSV, names, Markdown, progress.

Nothing here knows of data sets, models or runs.
"""
