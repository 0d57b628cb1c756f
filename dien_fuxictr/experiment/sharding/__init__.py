"""`embedding_sharding: rows`: embedding tables larger than a device.

Here is how a model is built without them, how their rows get their first values, and how they get to files and back.
What the workers tell each other is in `distributed`, how the rows are trained in `training`.
"""
