"""Samples -> ids.

Here are the data set's schema, reading, the zoo's feature processor and encoder without Ray, the encoded arrays and
the catalogue of behaviours. Nothing here knows which entry of a configuration it works for.
"""
