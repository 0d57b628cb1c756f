"""Samples -> ids: the data set's schema, the fitted encoder, encoded arrays and behaviour catalogues."""
