"""How data comes in: raw reviews or a log of behaviours -> labelled samples -> ids -> batches.

Nothing here knows of models or training. `build` and `audit` are the command lines.
"""
