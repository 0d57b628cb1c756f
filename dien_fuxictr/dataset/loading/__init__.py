"""Encoded arrays -> batches, and the entry of a data set -> a prepared data set.

Here are the loader, and what builds a data set once and finds it again: fingerprint, lock, atomic publication.
"""
