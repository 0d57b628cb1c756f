"""Cost of a training step on several processes: by a model, and measured here."""
