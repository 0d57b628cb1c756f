"""Prepare the data set of a configuration, and load batches from encoded arrays.

The package has the loader, and builds a data set once and finds it again: fingerprint, lock, atomic publication.
"""
