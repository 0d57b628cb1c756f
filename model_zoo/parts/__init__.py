"""What the models compared with DIEN share: how they read histories, pooled features, and the MLP."""
