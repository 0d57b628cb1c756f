"""Encoded arrays -> batches, and a data set's entry -> a prepared data set, built once and found again."""
