"""The zoo's YAML files -> one checked, merged configuration."""
