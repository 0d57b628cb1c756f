"""Read raw reviews or a log of behaviours into labelled samples, ids and batches.

The package knows nothing of models or training. `build` and `audit` are its command lines.
"""
