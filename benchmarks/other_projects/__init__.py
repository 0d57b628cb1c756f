"""DIEN of other projects, at the sizes of `benchmarks.synthetic_batches`.

Each project is imported when its model is built.
"""
