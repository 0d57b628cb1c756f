"""Encode samples as ids.

The package has the data set's schema, reading, the zoo's feature processor and encoder without Ray, the encoded arrays
and the catalogue of behaviours. It does not know the data sets of a configuration.
"""
