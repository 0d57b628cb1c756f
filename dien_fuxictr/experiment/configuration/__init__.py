"""The zoo's YAML files -> one checked, merged configuration.

Here is what reads, merges and checks keys, values and paths. Nothing is built or trained.
"""
